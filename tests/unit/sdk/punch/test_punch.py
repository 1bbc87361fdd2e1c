"""punch() over real sockets on loopback."""

import asyncio

import pytest
from peerpath.errors import TraversalError
from peerpath.net.ports import bindable_port
from peerpath.punch import punch


async def test_two_that_punch_at_the_same_time_meet_and_can_talk():
    one, two = (("127.0.0.1", bindable_port(0, 0)) for _ in range(2))
    async with asyncio.timeout(5):
        first, second = await asyncio.gather(punch(two, one), punch(one, two))
    heard = asyncio.get_running_loop().create_future()
    second.socket.on_datagram = lambda data, source: heard.set_result((data, source))
    first.socket.send(b"hello", first.remote)

    assert await asyncio.wait_for(heard, 2) == (b"hello", one)
    assert first.mapped == one
    first.close()
    second.close()


async def test_nobody_there_is_told_attempt_by_attempt():
    with pytest.raises(TraversalError) as failed:
        await punch(("127.0.0.1", bindable_port(0, 0)), ("127.0.0.1", 0), seconds=0.1, attempts=1)
    assert [str(entry) for entry in failed.value.report] == [
        "attempt 1: nothing came in from the peer (after 0.1 s)"
    ]
