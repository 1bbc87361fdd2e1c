"""The rendezvous by real WebSockets: what it carries, and what it bears."""

import asyncio
import socket

import aiohttp
import pytest
from peerpath.identity import Identity
from stunwire.rendezvous import (
    DEVICES_PER_KEY,
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    Challenge,
    CloseCode,
    From,
    Register,
    Result,
    ResultOf,
    To,
    registration_transcript,
)
from support.logs import logged, records
from turnrelay.web.rendezvous import device, routes
from unit.web.rendezvous_server import connected, registered, served


async def test_a_message_to_a_key_arrives_with_the_key_of_its_sender():
    async with served() as server, registered(server) as alice, registered(server) as bob:
        await alice.send(To(7, bob.key, b"hello"))
        assert await bob.receive() == From(alice.key, b"hello")
        assert await alice.receive() == ResultOf(7, Result.DELIVERED)
        await bob.send(To(1, alice.key, bytes(MAX_MESSAGE_BYTES)))
        assert await alice.receive() == From(bob.key, bytes(MAX_MESSAGE_BYTES))
        assert server.messages() == {"delivered": 2}
        assert (server.rendezvous.connections, server.rendezvous.keys) == (2, 2)


async def test_an_absent_key_is_reported_at_once_and_nothing_is_kept_for_it():
    bob = Identity.generate()
    async with served() as server, registered(server) as alice:
        await alice.send(To(1, bob.public_key.raw, b"anybody?"))
        assert await alice.receive() == ResultOf(1, Result.ABSENT)
        async with registered(server, bob) as late:
            await alice.send(To(2, bob.public_key.raw, b"now?"))
            assert await late.receive() == From(alice.key, b"now?")
            assert await alice.receive() == ResultOf(2, Result.DELIVERED)


async def test_a_key_is_absent_again_when_its_last_device_has_left():
    async with served() as server, registered(server) as alice:
        async with registered(server) as bob:
            await alice.send(To(1, bob.key, b"there"))
            assert await alice.receive() == ResultOf(1, Result.DELIVERED)
        while server.rendezvous.connections > 1:
            await asyncio.sleep(0.01)
        await alice.send(To(2, bob.key, b"gone"))
        assert await alice.receive() == ResultOf(2, Result.ABSENT)


async def test_every_device_of_a_key_gets_its_messages_and_nobody_else_does():
    bob = Identity.generate()
    async with (
        served() as server,
        registered(server) as alice,
        registered(server) as carol,
        registered(server, bob) as phone,
        registered(server, bob) as laptop,
    ):
        await alice.send(To(1, phone.key, b"both"))
        assert await phone.receive() == await laptop.receive() == From(alice.key, b"both")
        await alice.send(To(2, carol.key, b"carol alone"))
        assert await carol.receive() == From(alice.key, b"carol alone")


async def test_a_device_reaches_the_other_devices_of_its_own_key_and_not_itself():
    identity = Identity.generate()
    async with served() as server, registered(server, identity) as phone:
        await phone.send(To(1, phone.key, b"me?"))
        assert await phone.receive() == ResultOf(1, Result.ABSENT)
        async with registered(server, identity) as laptop:
            await phone.send(To(2, phone.key, b"you?"))
            assert await laptop.receive() == From(phone.key, b"you?")
            assert await phone.receive() == ResultOf(2, Result.DELIVERED)


async def test_one_device_too_many_takes_the_place_of_the_oldest():
    identity = Identity.generate()
    async with served() as server, registered(server, identity) as oldest:
        async with (
            registered(server, identity) as second,
            registered(server, identity),
            registered(server, identity),
            registered(server, identity) as newest,
            registered(server) as alice,
        ):
            assert await oldest.closed() == CloseCode.REPLACED
            await alice.send(To(1, newest.key, b"hi"))
            assert await second.receive() == await newest.receive() == From(alice.key, b"hi")
            assert DEVICES_PER_KEY == 4
        assert server.refusals() == {"replaced": 1}


# -- who is not registered ----------------------------------------------------------------------------------


async def other_key(client, nonce):
    """A signature of one's own for the key of somebody else."""
    signed = client.answer(nonce)
    return Register(Identity.generate().public_key.raw, signed.signature)


async def other_nonce(client, nonce):
    return client.answer(bytes(32))


async def other_host(client, nonce):
    """What a client signs who believes to talk to evil.example, which passes our challenge on."""
    transcript = registration_transcript(nonce, "evil.example")
    return Register(client.key, client.identity.sign(transcript))


async def bare_nonce(client, nonce):
    return Register(client.key, client.identity.sign(nonce))


async def no_point(client, nonce):
    return Register(b"\xff" * 32, client.answer(nonce).signature)


@pytest.mark.parametrize("lie", [other_key, other_nonce, other_host, bare_nonce, no_point])
async def test_a_signature_that_proves_nothing_registers_nobody(lie):
    async with served() as server, registered(server) as alice, connected(server) as mallory:
        await mallory.send(await lie(mallory, await mallory.challenge()))
        assert await mallory.closed() == CloseCode.BAD_SIGNATURE
        await alice.send(To(1, mallory.key, b"?"))
        assert await alice.receive() == ResultOf(1, Result.ABSENT)
        assert server.refusals() == {"signature": 1}


async def test_an_answer_to_one_challenge_is_worth_nothing_for_the_next():
    async with served() as server, connected(server) as alice:
        answer = alice.answer(await alice.challenge())
        async with connected(server) as mallory:
            await mallory.challenge()
            await mallory.send(answer)
            assert await mallory.closed() == CloseCode.BAD_SIGNATURE
        await alice.send(answer)
        assert (await alice.receive()).device


async def test_challenges_never_repeat():
    async with served() as server, connected(server) as one, connected(server) as two:
        assert await one.challenge() != await two.challenge()


@pytest.mark.parametrize("frame", [To(1, bytes(32), b"early"), Challenge(bytes(32))])
async def test_nothing_but_a_registration_comes_first(frame):
    async with served() as server, connected(server) as client:
        await client.challenge()
        await client.send(frame)
        assert await client.closed() == CloseCode.PROTOCOL_ERROR
        assert server.refusals() == {"protocol": 1}


async def test_a_client_that_never_registers_is_let_go(monkeypatch):
    monkeypatch.setattr(routes, "HANDSHAKE_SECONDS", 0.1)
    async with served() as server, connected(server) as client:
        await client.challenge()
        assert await client.closed() == CloseCode.HANDSHAKE_TIMEOUT
        assert server.refusals() == {"timeout": 1}


# -- under which names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("relay.example", True),
        ("RELAY.example:8443", True),
        ("a.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("evil.example", False),
        ("localhost:1", True),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("[2001:db8::1]:9641", True),
        ("", False),
    ],
)
async def test_only_its_own_names_are_registered_at(host, known):
    async with served("relay.example", "*.wild.example", "2001:db8::1") as server:
        attempt = connected(server, headers={"Host": host})
        if known:
            async with attempt as client:
                client.authority = host
                await client.register()
            return
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await attempt.__aenter__()
        assert refused.value.status == 421
        assert server.refusals() == {"host": 1}


# -- what it bears ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\x12", b"\xff" * 50, Register(bytes(32), bytes(64)).encode()])
async def test_nonsense_ends_the_connection_with_a_reason(data):
    async with served() as server, registered(server) as client:
        await client.socket.send_bytes(data)
        assert await client.closed() == CloseCode.PROTOCOL_ERROR
        assert server.refusals() == {"protocol": 1}


async def test_text_ends_the_connection():
    async with served() as server, registered(server) as client:
        await client.socket.send_str("hello")
        assert await client.closed() == CloseCode.PROTOCOL_ERROR


async def test_a_message_over_the_limit_is_not_even_read():
    async with served() as server, registered(server) as client:
        await client.socket.send_bytes(bytes(MAX_FRAME_BYTES + 1))
        assert await client.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_flood_of_one_key_is_throttled_and_the_others_go_on():
    limit = {"messages_per_key_per_second": 1, "messages_per_key_burst": 5}
    async with served(**limit) as server, registered(server) as flooder, registered(server) as alice:
        for number in range(8):
            await flooder.send(To(number, alice.key, b"flood"))
        results = [(await flooder.receive()).result for _ in range(8)]
        assert results[:5] == [Result.DELIVERED] * 5
        assert Result.THROTTLED in results[5:]
        await alice.send(To(1, flooder.key, b"calm"))
        frames = [await flooder.receive()]
        assert From(alice.key, b"calm") in frames


async def test_devices_of_one_key_share_its_rate():
    identity = Identity.generate()
    limit = {"messages_per_key_per_second": 1, "messages_per_key_burst": 2}
    async with (
        served(**limit) as server,
        registered(server, identity) as phone,
        registered(server, identity) as laptop,
        registered(server) as alice,
    ):
        for number in range(2):
            await phone.send(To(number, alice.key, b"x"))
            assert (await phone.receive()).result is Result.DELIVERED
        await laptop.send(To(1, alice.key, b"x"))
        assert (await laptop.receive()).result is Result.THROTTLED


@pytest.mark.parametrize(
    ("limit", "status", "reason"),
    [
        ({"connections_total": 2}, 503, "connections"),
        ({"connections_per_prefix": 2}, 503, "connections"),
        ({"messages_per_prefix_per_second": 1, "messages_per_prefix_burst": 2}, 429, "rate"),
    ],
)
async def test_connections_are_limited_and_their_places_come_back(limit, status, reason):
    async with served(**limit) as server:
        async with connected(server), connected(server):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await connected(server).__aenter__()
            assert refused.value.status == status
            assert server.refusals() == {reason: 1}
        if status == 503:
            while server.rendezvous.connections:
                await asyncio.sleep(0.01)
            async with registered(server), registered(server):
                assert server.rendezvous.connections == 2


async def test_connections_beyond_the_rate_are_counted_and_no_lines_in_the_log():
    limit = {"messages_per_prefix_per_second": 1, "messages_per_prefix_burst": 2}
    with logged() as stream:
        async with served(**limit) as server, aiohttp.ClientSession() as session:
            statuses = [(await session.get(server.url.replace("ws:", "http:"))).status for _ in range(20)]
            assert server.refusals()["rate"] == statuses.count(429) > 10
    assert len(records(stream.getvalue())) == statuses.count(400)


async def test_behind_a_trusted_proxy_limits_count_for_its_clients():
    async with (
        served(trusted=["127.0.0.1/32"], connections_per_prefix=1) as server,
        connected(server, headers={"X-Forwarded-For": "198.51.100.1"}),
        connected(server, headers={"X-Forwarded-For": "203.0.113.1"}),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await connected(server, headers={"X-Forwarded-For": "9.9.9.9, 198.51.100.2"}).__aenter__()


async def test_a_client_that_does_not_read_is_let_go_and_takes_nobody_with_it(monkeypatch):
    monkeypatch.setattr(device, "STALL_SECONDS", 0.3)
    async with served() as server, registered(server) as alice, registered(server) as bob:
        async with connected(server) as deaf:
            await deaf.register()
            transport = deaf.socket._response.connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            transport.pause_reading()
            results = set()
            for number in range(3000):
                await alice.send(To(number, deaf.key, bytes(MAX_MESSAGE_BYTES)))
                results.add((await alice.receive()).result)
                if Result.ABSENT in results:
                    break
            assert results >= {Result.DELIVERED, Result.CONGESTED, Result.ABSENT}
            assert server.refusals() == {"stalled": 1}
            transport.resume_reading()
        await alice.send(To(1, bob.key, b"still here"))
        assert await bob.receive() == From(alice.key, b"still here")


async def test_a_plain_request_is_told_what_this_is():
    async with served() as server, aiohttp.ClientSession() as session:
        answer = await session.get(server.url.replace("ws", "http", 1))
        assert answer.status == 400
        assert SUBPROTOCOL in await answer.text()


@pytest.mark.parametrize("protocols", [(), ("chat",), ("turnrelay.rendezvous.2",)])
async def test_a_websocket_of_another_protocol_is_refused(protocols):
    async with served() as server:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connected(server, protocols=protocols).__aenter__()
        assert refused.value.status == 400


async def test_any_web_page_may_connect():
    async with served() as server, connected(server, headers={"Origin": "https://elsewhere"}) as client:
        await client.register()


async def test_a_relay_that_stops_says_so_to_everyone():
    async with served() as server:
        alice, bob = registered(server), connected(server)
        clients = [await alice.__aenter__(), await bob.__aenter__()]
        closing = asyncio.create_task(server.rendezvous.close())
        assert [await client.closed() for client in clients] == [CloseCode.GOING_AWAY] * 2
        await closing
        await alice.__aexit__(None, None, None)
        await bob.__aexit__(None, None, None)
