"""The channel within one process."""

import asyncio

import pytest
from peerpath.signaling import MAX_MESSAGE_BYTES, SignalingClosed, memory_pair
from peerpath.signaling.mailbox import CAPACITY


async def test_messages_arrive_in_order_both_ways():
    alice, bob = memory_pair()
    for number in range(10):
        await alice.send(b"to bob %d" % number)
        await bob.send(b"to alice %d" % number)
    assert [await bob.recv() for _ in range(10)] == [b"to bob %d" % number for number in range(10)]
    assert [await alice.recv() for _ in range(10)] == [b"to alice %d" % number for number in range(10)]


async def test_a_delay_holds_messages_back_and_keeps_their_order():
    loop = asyncio.get_running_loop()
    alice, bob = memory_pair(delay=0.05)
    started = loop.time()
    await alice.send(b"1")
    await alice.send(b"2")
    assert [await bob.recv(), await bob.recv()] == [b"1", b"2"]
    assert loop.time() - started >= 0.05


async def test_a_reader_who_gives_up_loses_nothing():
    alice, bob = memory_pair(delay=0.5)
    await alice.send(b"1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bob.recv(), 0.01)
    assert await bob.recv() == b"1"


async def test_closing_ends_both_sides_after_what_was_sent():
    alice, bob = memory_pair()
    await alice.send(b"last")
    alice.close()
    assert await bob.recv() == b"last"
    for end in (alice, bob):
        with pytest.raises(SignalingClosed):
            await end.recv()
        with pytest.raises(SignalingClosed):
            await end.send(b"too late")


async def test_closing_wakes_whoever_waits():
    alice, bob = memory_pair()
    for _ in range(CAPACITY):
        await alice.send(b"x")
    waiting = [asyncio.create_task(alice.send(b"no room")), asyncio.create_task(alice.recv())]
    await asyncio.sleep(0)
    bob.close()
    for task in waiting:
        with pytest.raises(SignalingClosed):
            await asyncio.wait_for(task, 5)


async def test_a_sender_waits_for_a_slow_reader():
    alice, bob = memory_pair()
    for number in range(CAPACITY):
        await alice.send(b"%d" % number)
    waiting = asyncio.create_task(alice.send(b"next"))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await bob.recv() == b"0"
    await asyncio.wait_for(waiting, 5)


async def test_a_message_over_the_limit_is_the_callers_mistake():
    alice, _ = memory_pair()
    await alice.send(bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(ValueError, match="16384 are the most"):
        await alice.send(bytes(MAX_MESSAGE_BYTES + 1))
