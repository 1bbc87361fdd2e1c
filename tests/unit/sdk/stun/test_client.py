"""StunClient: the fastest good answer wins, and what went wrong is told server by server."""

import asyncio
import contextlib
import time

import pytest
from peerpath.errors import TraversalError
from peerpath.stun.client import StunClient
from peerpath.stun.sockets import StunSocket
from stunwire import TransportAddress
from unit.sdk.stun.servers_on_loopback import LoopbackServer, Names, redirect_to, refuse

FAST, SLOW = TransportAddress("203.0.113.1", 1), TransportAddress("203.0.113.2", 2)


@contextlib.asynccontextmanager
async def running(*servers):
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        yield [server.address for server in servers]


@contextlib.asynccontextmanager
async def in_no_time():
    """Long for a busy machine, short for whoever waits for a timeout of 60 s."""
    async with asyncio.timeout(10):
        yield


async def test_the_public_address_of_a_port():
    async with running(LoopbackServer()) as [address]:
        found = await StunClient([address]).public_address()

    assert found.mapped == found.local
    assert found.server_address == address
    assert 0 <= found.round_trip < 1


async def test_the_fastest_good_answer_wins():
    slow, fast = LoopbackServer(delay=0.3, mapped=SLOW), LoopbackServer(mapped=FAST)
    bad = LoopbackServer(answer=refuse(500))
    async with running(bad, slow, fast) as servers:
        assert (await StunClient(servers).public_address()).mapped == FAST


async def test_a_dead_server_costs_nothing():
    async with running(LoopbackServer(deaf=True), LoopbackServer(mapped=FAST)) as servers, in_no_time():
        await StunClient(servers, timeout=60).public_address()


async def test_the_backup_is_asked_when_all_primary_servers_have_failed(monkeypatch):
    monkeypatch.setattr("peerpath.stun.client.ORDERED_STAGGER", 60)
    backup = LoopbackServer(mapped=FAST)
    async with running(LoopbackServer(answer=refuse(500)), backup) as [primary, second], in_no_time():
        client = StunClient([primary, "nowhere.test"], [second], resolver=Names(), timeout=60)
        assert (await client.public_address()).mapped == FAST


async def test_the_backup_is_left_alone_while_a_primary_server_answers(monkeypatch):
    monkeypatch.setattr("peerpath.stun.client.ORDERED_STAGGER", 60)
    backup = LoopbackServer()
    async with running(LoopbackServer(delay=0.05), backup) as [primary, second]:
        await StunClient([primary], [second]).public_address()
    assert backup.asked_at == []


async def test_the_backup_is_asked_when_the_primary_servers_are_silent():
    async with running(LoopbackServer(deaf=True), LoopbackServer(mapped=FAST)) as [primary, second]:
        started = time.monotonic()
        assert (await StunClient([primary], [second]).public_address()).mapped == FAST
        assert time.monotonic() - started > 0.25


async def test_in_order_the_first_server_is_asked_alone_as_long_as_it_may_answer(monkeypatch):
    monkeypatch.setattr("peerpath.stun.client.ORDERED_STAGGER", 60)
    second = LoopbackServer()
    async with running(LoopbackServer(delay=0.1, mapped=FAST), second) as servers:
        found = await StunClient(servers, selection="ordered").public_address()
    assert found.mapped == FAST
    assert second.asked_at == []


async def test_every_server_is_named_with_its_reason():
    async with running(LoopbackServer(deaf=True), LoopbackServer(answer=refuse(500))) as [deaf, angry]:
        client = StunClient([deaf, angry, "nowhere.test"], timeout=0.4, resolver=Names())
        with pytest.raises(TraversalError) as failed:
            await client.public_address()

    reasons = {failure.server: failure.reason for failure in failed.value.report}
    assert reasons[f"stun:127.0.0.1:{deaf.port}"] == "no answer within 0.4 s"
    assert "500 Server Error" in reasons[f"stun:127.0.0.1:{angry.port}"]
    assert reasons["stun:nowhere.test"] == "nowhere.test has no address: not in the table"
    assert str(failed.value).startswith("No STUN server told the public address:\n  stun:")


async def test_of_a_name_with_several_addresses_one_that_lives_is_enough():
    async with running(LoopbackServer("127.0.0.1", mapped=FAST)) as [alive]:
        names = Names({"stun.test": ["127.7.7.7", "127.0.0.1"]})
        found = await StunClient([("stun.test", alive.port)], resolver=names).public_address()
    assert found.mapped == FAST


async def test_srv_records_are_followed_where_no_port_is_given():
    async with running(LoopbackServer(mapped=FAST)) as [server]:
        names = Names(
            {"stun.test": ["127.7.7.7"], "real.test": ["127.0.0.1"]},
            {("stun", "udp", "stun.test"): [("real.test", server.port)]},
        )
        assert (await StunClient(["stun.test"], resolver=names).public_address()).mapped == FAST


async def test_a_redirection_is_followed():
    real = LoopbackServer(mapped=FAST)
    first = LoopbackServer(answer=lambda request, source: redirect_to(real.address)(request, source))
    async with running(real, first) as [_, address]:
        assert (await StunClient([address]).public_address()).mapped == FAST


async def test_a_circle_of_redirections_is_left():
    loop = LoopbackServer(answer=lambda request, source: redirect_to(loop.address)(request, source))
    async with running(loop) as [address]:
        with pytest.raises(TraversalError, match="from server to server"):
            await StunClient([address]).public_address()
    assert len(loop.asked_at) == 3


async def test_what_was_seen_of_a_port_is_remembered_for_as_long_as_is_asked():
    server = LoopbackServer()
    async with running(server) as [address]:
        client = StunClient([address])
        first = await client.public_address(0)
        port = first.local.port
        seen = await client.public_address(port)
        assert await client.public_address(port, max_age=60) is seen
        assert (await client.public_address(port)).seen_at > seen.seen_at
    assert len(server.asked_at) == 3


async def test_a_socket_that_exists_learns_its_own_address():
    server = LoopbackServer()
    async with running(server) as [address]:
        client = StunClient([address])
        socket = await StunSocket.open(("127.0.0.1", 0))
        try:
            found = await client.public_address_of(socket)
            assert found.mapped == socket.local
            assert socket.latest.mapped == socket.local
            assert await client.public_address_of(socket, max_age=60) is found
        finally:
            socket.close()
    assert len(server.asked_at) == 1


async def test_a_taken_port_is_the_callers_fault():
    async with running(LoopbackServer(), LoopbackServer("0.0.0.0")) as [server, other]:
        with pytest.raises((TraversalError, OSError), match="in use"):
            await StunClient([server]).public_address(other.port)


def test_no_server_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        StunClient([])


async def test_nothing_is_left_behind():
    async with running(LoopbackServer(deaf=True), LoopbackServer()) as servers:
        await StunClient(servers).public_address()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
