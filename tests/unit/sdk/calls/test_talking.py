"""What an application does with a connection that a call gave it; real sockets, real signaling."""

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from peerpath import Connection, ConnectionOptions, Contacts, Identity
from peerpath.signaling import memory_pair
from unit.sdk.calls.people import ALICE, BOB, Person, alice, bob, nothing_left


@asynccontextmanager
async def couple(**more):
    there, back = memory_pair()
    callee, caller = bob(**more), alice(**more)
    async with (
        nothing_left(),
        callee,
        caller,
        callee.listen(back) as calls,
        caller.connect(BOB.public_key, there) as connection,
    ):
        yield connection, await calls.accept()


async def test_both_sides_know_with_whom_they_talk_and_how():
    async with couple() as (connection, other):
        assert connection.peer == BOB.public_key
        assert other.peer == ALICE.public_key
        assert connection.path.kind == "host"
        assert connection.path.transport == "udp"
        assert connection.path.rtt < 1
        assert other.path.kind == "host"
        assert "192.0.2" not in repr(connection.path)
        stats = connection.stats()
        assert (stats.links, stats.interruptions) == (1, 0)
        [attempt] = connection.report.attempts
        assert attempt.result == "connected"
        assert attempt.steps[0].text == "route 0: the first one"
        connection.report.as_json()


async def test_messages_datagrams_and_streams_side_by_side():
    async with couple() as (connection, other):
        content = os.urandom(1_000_000)

        async def receive():
            stream = await other.accept_stream()
            digest = hashlib.sha256()
            while chunk := await stream.read():
                digest.update(chunk)
            stream.write_eof()
            return digest.digest()

        receiving = asyncio.create_task(receive())
        stream = await connection.open_stream()
        writing = asyncio.create_task(stream.write(content))
        for number in range(200):
            await connection.send(b"%d" % number)
        for number in range(200):
            assert await other.recv() == b"%d" % number
        other.send_datagram(b"typing")
        assert await asyncio.wait_for(connection.recv_datagram(), 5) == b"typing"
        await writing
        stream.write_eof()
        assert await receiving == hashlib.sha256(content).digest()


async def test_who_does_not_read_stops_the_sender():
    async with couple(connection=ConnectionOptions(window_messages=10)) as (connection, other):
        sent = 0

        async def flood():
            nonlocal sent
            for _ in range(100):
                await connection.send(b"x")
                sent += 1

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(0.3)
        assert sent <= 12
        for _ in range(100):
            assert await other.recv() == b"x"
        await asyncio.wait_for(flooding, 5)


async def test_the_events_of_the_path_begin_with_the_present_one_and_end_with_the_connection():
    async with couple() as (connection, _):
        events = connection.path_events()
        first = await anext(events)
        assert first.path == connection.path
        await connection.close("enough")
        async with asyncio.timeout(5):
            assert {event.path.kind async for event in events if event.path is not None} <= {"host"}


async def test_many_calls_at_once():
    callers = [Identity.generate() for _ in range(8)]
    callee = bob(authorize=Contacts(caller.public_key for caller in callers))

    async def talk(caller, channel):
        async with Person(caller) as nat, nat.connect(BOB.public_key, channel, timeout=40) as connection:
            for number in range(5):
                await connection.send(b"%d" % number)
                assert await connection.recv() == b"%d" % number

    async def echo(listener):
        async with listener as calls:
            connection = await calls.accept()
            async for message in connection:
                await connection.send(message)

    async with nothing_left(), callee:
        pairs = [memory_pair() for _ in callers]
        echoing = [asyncio.create_task(echo(callee.listen(back))) for _, back in pairs]
        await asyncio.gather(*map(talk, callers, [there for there, _ in pairs]))
        await asyncio.gather(*echoing)
    assert sorted(callee.results) == ["closed"] * 8 + ["connected"] * 8
    assert {event.peer for event in callee.events} == {caller.public_key for caller in callers}


async def test_many_attempts_one_after_the_other_leave_nothing_in_the_listener():
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), AsyncExitStack() as stack:
        await stack.enter_async_context(callee)
        await stack.enter_async_context(caller)
        calls = await stack.enter_async_context(callee.listen(back))
        for _ in range(4):
            async with caller.connect(BOB.public_key, there):
                other = await calls.accept()
            assert [message async for message in other] == []
        async with asyncio.timeout(10):
            while calls._reception._answerers or caller._dialers:
                await asyncio.sleep(0.02)


async def test_who_says_everything_at_once_and_hangs_up_is_heard(monkeypatch):
    """The listener's side looks at its connection only when the caller has left already."""
    wait_connected = Connection.wait_connected

    async def late(connection: Connection) -> None:
        if connection.peer == ALICE.public_key:
            await connection.wait_closed()
        await wait_connected(connection)

    monkeypatch.setattr(Connection, "wait_connected", late)
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, asyncio.timeout(20), callee.listen(back) as calls:
        async with caller.connect(BOB.public_key, there) as connection:
            await connection.send(b"hello and goodbye")
        other = await calls.accept()
        assert [message async for message in other] == [b"hello and goodbye"]
    assert callee.results == caller.results == ["connected", "closed"]


async def test_a_window_of_nothing_is_a_mistake():
    with pytest.raises(ValueError, match="window_messages"):
        ConnectionOptions(window_messages=0)
