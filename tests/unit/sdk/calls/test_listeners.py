"""Several listeners at one source, at the same time or one after the other, and what outlives them."""

import asyncio
import gc
import weakref

import pytest
from peerpath import CallError, CallOptions, ConnectionOptions
from peerpath.signaling import SignalingClosed, memory_pair
from unit.sdk.calls.people import BOB, Meeting, alice, bob, lose_link, nothing_left, until


async def talk(connection, other):
    await connection.send(b"hello")
    assert await asyncio.wait_for(other.recv(), 10) == b"hello"


async def test_the_next_listener_gets_calls_while_a_connection_of_the_one_before_lives():
    meeting, callee, caller = Meeting(), bob(), alice()
    async with nothing_left(), callee, caller:
        async with callee.listen(meeting) as calls:
            first = await caller.connect(BOB.public_key, meeting)
            other = await calls.accept()
        async with callee.listen(meeting) as calls:
            second = await caller.connect(BOB.public_key, meeting)
            await talk(second, await asyncio.wait_for(calls.accept(), 10))
            # What came by the first one is made again beside it.
            lose_link(first, other)
            await talk(first, other)
        await talk(first, other)


async def test_calls_accepted_one_after_the_other_live_side_by_side():
    meeting, callee, caller = Meeting(), bob(), alice()
    async with nothing_left(), callee, caller:
        pairs = []
        for _ in range(3):
            accepting = asyncio.create_task(callee.accept(meeting, within=20))
            connection = await caller.connect(BOB.public_key, meeting)
            pairs.append((connection, await accepting))
        for connection, other in pairs:
            await talk(connection, other)


async def test_two_who_listen_at_once_get_one_call_each():
    meeting, callee, caller = Meeting(), bob(), alice()
    async with nothing_left(), callee, caller:
        accepting = [asyncio.create_task(callee.accept(meeting, within=20)) for _ in range(2)]
        dialed = [await caller.connect(BOB.public_key, meeting) for _ in range(2)]
        taken = await asyncio.gather(*accepting)
        for connection in dialed:
            await connection.send(b"for one of them")
        for other in taken:
            assert await asyncio.wait_for(other.recv(), 10) == b"for one of them"
        lose_link(*dialed, *taken)
        for connection in dialed:
            await connection.send(b"and again")
        for other in taken:
            assert await asyncio.wait_for(other.recv(), 10) == b"and again"


async def test_a_listener_that_closes_ends_nothing_of_another():
    meeting, callee, caller = Meeting(), bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(meeting) as calls:
        async with callee.listen(meeting) as others:
            waiting = asyncio.create_task(others.accept())
            await asyncio.sleep(0)
        with pytest.raises(SignalingClosed):
            await asyncio.wait_for(waiting, 10)
        connection = await caller.connect(BOB.public_key, meeting)
        await talk(connection, await asyncio.wait_for(calls.accept(), 10))


async def test_a_listener_can_be_opened_again():
    meeting, callee, caller = Meeting(), bob(), alice()
    async with nothing_left(), callee, caller:
        calls = callee.listen(meeting)
        for _ in range(2):
            async with calls:
                connection = await caller.connect(BOB.public_key, meeting)
                await talk(connection, await asyncio.wait_for(calls.accept(), 10))


async def test_a_connection_that_is_being_made_again_survives_the_end_of_its_listener():
    there, back = memory_pair(delay=0.1)
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller:
        async with callee.listen(back) as calls:
            connection = await caller.connect(BOB.public_key, there)
            other = await calls.accept()
            lose_link(connection, other)
            await until(lambda: len(other.report.attempts) == 2)  # the offer is here, the answer on its way
        await talk(connection, other)
        # Without this it would be given up when the time to reconnect is over.
        await until(lambda: callee.events[-1].reason == "made again")


async def test_a_caller_about_whom_a_person_is_asked_is_not_kept_waiting_by_a_closed_listener():
    async def authorize(_):
        await asyncio.get_running_loop().create_future()

    meeting = Meeting()
    async with nothing_left(), alice() as caller, bob(authorize=authorize) as callee:
        async with callee.listen(meeting) as calls:
            connecting = asyncio.create_task(caller.connect(BOB.public_key, meeting, timeout=60)._dial())
            await until(lambda: calls._reception._asking)
        with pytest.raises(CallError, match="the channel was closed"):
            await asyncio.wait_for(connecting, 20)


async def test_how_often_one_key_may_call_is_counted_for_all_listeners_together():
    callee = bob(options=CallOptions(attempts_burst=2, attempts_per_minute=1))
    async with nothing_left(), callee, alice() as caller:
        for _ in range(2):
            meeting = Meeting()
            accepting = asyncio.create_task(callee.accept(meeting, within=20))
            async with caller.connect(BOB.public_key, meeting):
                await accepting
        meeting = Meeting()
        async with callee.listen(meeting):
            with pytest.raises(CallError, match="too many attempts"):
                await caller.connect(BOB.public_key, meeting)


async def test_what_came_by_a_channel_is_forgotten_with_it():
    callee, caller = bob(connection=ConnectionOptions(close_timeout=1)), alice()
    async with nothing_left(), callee, caller:
        there, back = memory_pair()
        accepting = asyncio.create_task(callee.accept(back, within=20))
        async with caller.connect(BOB.public_key, there):
            other = await accepting
        await other.close()
        channel = weakref.ref(back)
        del there, back, accepting, other

        def is_gone():
            gc.collect()
            return channel() is None

        await until(is_gone)
