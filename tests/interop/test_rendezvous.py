"""A running relay's rendezvous: between two processes of the SDK, and for a client that nobody here wrote."""

import asyncio
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from peerpath.identity import Identity
from peerpath.signaling import (
    Answering,
    Dialing,
    PeerAbsent,
    Rendezvous,
    RendezvousError,
    RendezvousState,
    ReplayGuard,
    SignalingClosed,
)
from stunwire.rendezvous import PATH, SUBPROTOCOL, To, decode_from_server, registration_transcript
from support.ports import loopback_address
from support.processes import Process
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

PEER = Path(__file__).with_name("signaling_peer.py")


@pytest.fixture(scope="module")
def relay(tmp_path_factory) -> Iterator[TurnRelayServer]:
    with (
        loopback_address() as address,
        TurnRelayServer(
            Site.prepare(tmp_path_factory.mktemp("relay"), address),
            Access(),
            flags=["--rendezvous-host", "relay.example", "--shared", f"{address}:4433"],
        ) as server,
    ):
        yield server


@pytest.fixture
def url(relay) -> str:
    return f"ws://{relay.site.address}:9641"


@pytest.fixture
def alice() -> Identity:
    return Identity.generate()


@pytest.fixture
def bob() -> Identity:
    return Identity.generate()


def test_two_processes_talk_through_a_running_relay(relay, url, alice, bob, tmp_path):
    alice.save(tmp_path / "alice.key")
    bob.save(tmp_path / "bob.key")
    with (
        Process([sys.executable, PEER, "answer", url, tmp_path / "bob.key"]) as answering,
        Process([sys.executable, PEER, "dial", url, tmp_path / "alice.key", str(bob.public_key)]) as dialing,
    ):
        assert dialing.wait(60) == f"reached {bob.public_key}\n"
        assert answering.wait(60) == f"answered {alice.public_key}\n"
    page = relay.scrape()
    assert page.total("turnrelay_rendezvous_messages_total", result="delivered") >= 42
    log = relay.process.output()
    for identity in (alice, bob):
        assert str(identity.public_key) not in log
        assert identity.public_key.raw.hex() not in log


async def open_offer(identity, channel):
    return Answering.open_offer(identity, await channel.recv(), ReplayGuard(), now=time.time())


async def test_an_absent_peer_is_known_at_once(url, alice, bob):
    async with Rendezvous(url, alice) as here:
        channel = here.channel(bob.public_key)
        dialing = Dialing(alice, bob.public_key, now=time.time())
        with pytest.raises(PeerAbsent, match=f"{bob.public_key} is not at"):
            await channel.send(dialing.seal("offer", {}))


async def test_attempts_of_one_peer_at_the_same_time_are_not_mixed(url, alice, bob):
    async with Rendezvous(url, alice) as here, Rendezvous(url, bob) as there:
        dialings = [Dialing(alice, bob.public_key, now=time.time()) for _ in range(5)]
        channels = [here.channel(bob.public_key) for _ in dialings]
        for number, (dialing, channel) in enumerate(zip(dialings, channels, strict=True)):
            await channel.send(dialing.seal("offer", {"n": number}))
        incoming = there.incoming()
        for _ in dialings:
            peer, channel = await anext(incoming)
            answering = await open_offer(bob, channel)
            assert answering.peer == peer == alice.public_key
            await channel.send(answering.seal("answer", {"n": answering.body["n"]}))
        for number, (dialing, channel) in enumerate(zip(dialings, channels, strict=True)):
            assert dialing.open(await channel.recv()) == ("answer", {"n": number})


async def test_both_may_dial_each_other_at_once(url, alice, bob):
    async with Rendezvous(url, alice) as here, Rendezvous(url, bob) as there:
        for identity, mine, peer in ((alice, here, bob), (bob, there, alice)):
            dialing = Dialing(identity, peer.public_key, now=time.time())
            await mine.channel(peer.public_key).send(
                dialing.seal("offer", {"from": str(identity.public_key)})
            )
        for identity, mine, peer in ((alice, here, bob), (bob, there, alice)):
            _, channel = await anext(mine.incoming())
            assert (await open_offer(identity, channel)).body == {"from": str(peer.public_key)}


async def test_a_closed_channel_gets_nothing_more_and_leaving_ends_them_all(url, alice, bob):
    async with Rendezvous(url, alice) as here, Rendezvous(url, bob) as there:
        channel, left_open = here.channel(bob.public_key), here.channel(bob.public_key)
        for one in (channel, left_open):
            await one.send(Dialing(alice, bob.public_key, now=time.time()).seal("offer", {}))
        channel.close()
        incoming = there.incoming()
        for _ in range(2):
            _, answer_to = await anext(incoming)
            answering = await open_offer(bob, answer_to)
            await answer_to.send(answering.seal("answer", {}))
        assert await left_open.recv()
        with pytest.raises(SignalingClosed):
            await channel.recv()
        with pytest.raises(SignalingClosed):
            await channel.send(b"")
        waiting = asyncio.create_task(left_open.recv())
        await here.close()
        with pytest.raises(SignalingClosed):
            await asyncio.wait_for(waiting, 10)
        with pytest.raises(SignalingClosed):
            await left_open.send(Dialing(alice, bob.public_key, now=time.time()).seal("offer", {}))
        assert [peer async for peer in here.incoming()] == []


async def test_a_rendezvous_carries_envelopes_alone(url, alice, bob):
    async with Rendezvous(url, alice) as here:
        with pytest.raises(ValueError, match="envelopes alone"):
            await here.channel(bob.public_key).send(b"hello")


async def test_bytes_that_are_no_envelope_do_not_reach_an_app(url, alice, bob):
    async with Rendezvous(url, alice) as here, aiohttp.ClientSession() as session:
        async with session.ws_connect(url + PATH, protocols=(SUBPROTOCOL,)) as socket:
            challenge = decode_from_server(await socket.receive_bytes())
            transcript = registration_transcript(challenge.nonce, url.removeprefix("ws://"))
            await socket.send_bytes(b"\x11" + bob.public_key.raw + bob.sign(transcript))
            assert decode_from_server(await socket.receive_bytes()).device
            for garbage in (b"\x00", b"hello", bytes(16384)):
                await socket.send_bytes(To(1, alice.public_key.raw, garbage).encode())
                assert decode_from_server(await socket.receive_bytes()).result == 0
            offer = Dialing(bob, alice.public_key, now=time.time()).seal("offer", {})
            await socket.send_bytes(To(1, alice.public_key.raw, offer).encode())
            peer, channel = await asyncio.wait_for(anext(here.incoming()), 20)
        assert peer == bob.public_key
        assert (await open_offer(alice, channel)).kind == "offer"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda url: url + "/elsewhere", "has no rendezvous"),
        (lambda url: url + "/metrics", "answers with HTTP status 200"),
        (lambda url: url.replace("9641", "9"), "cannot be reached"),
        (lambda url: "ws://nowhere.invalid", "cannot be reached"),
        (lambda url: url.replace("ws:", "wss:"), "cannot be reached"),
    ],
)
async def test_a_server_that_is_not_to_be_had_is_told_in_words(url, alice, make, reason):
    with pytest.raises(RendezvousError, match=reason):
        async with Rendezvous(make(url), alice):
            pass


async def test_a_server_that_does_not_answer_is_told_in_words(alice, monkeypatch):
    monkeypatch.setattr("peerpath.signaling.rendezvous_link.HANDSHAKE_SECONDS", 0.2)
    silent = await asyncio.start_server(lambda *_: asyncio.sleep(30), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(RendezvousError, match="no answer within"):
        async with Rendezvous(f"ws://127.0.0.1:{port}", alice):
            pass
    silent.close()


async def test_a_name_that_the_relay_does_not_have_is_refused(relay, url, alice):
    """As it is for a server that passes the relay's challenges on under its own name."""
    headers = {"Host": "evil.example"}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url + PATH, protocols=(SUBPROTOCOL,), headers=headers)
        assert refused.value.status == 421
        headers = {"Host": "relay.example"}
        async with session.ws_connect(url + PATH, protocols=(SUBPROTOCOL,), headers=headers) as socket:
            assert decode_from_server(await socket.receive_bytes()).nonce


async def test_peers_meet_at_the_port_that_is_shared_with_turn_and_at_the_http_side(relay, url, alice, bob):
    tls = ssl.create_default_context(cafile=relay.site.certificates.authority)
    shared = f"https://{relay.site.address}:4433"
    async with Rendezvous(shared, alice, tls=tls) as here, Rendezvous(url, bob) as there:
        dialing = Dialing(alice, bob.public_key, now=time.time())
        await here.channel(bob.public_key).send(dialing.seal("offer", {}))
        _, channel = await asyncio.wait_for(anext(there.incoming()), 20)
        assert (await open_offer(bob, channel)).peer == alice.public_key


async def test_states_are_told_in_their_order(url, alice):
    states = []
    async with Rendezvous(url, alice, on_state=lambda state, _: states.append(state)) as here:
        assert here.state is RendezvousState.REGISTERED
    assert states == [RendezvousState.REGISTERED, RendezvousState.CLOSED]


@pytest.mark.parametrize(
    "text", ["relay.example", "ftp://relay.example", "wss://", "wss://u@relay", "wss://r?x"]
)
def test_what_is_no_address_of_a_rendezvous_is_the_callers_mistake(text, alice):
    with pytest.raises(ValueError, match="rendezvous"):
        Rendezvous(text, alice)
