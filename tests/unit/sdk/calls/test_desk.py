"""The desk sorts what one channel carries among attempts, and forgets those that are over."""

import asyncio
import secrets

import pytest
from peerpath import Identity
from peerpath.calls.desk import _MAX_ATTEMPTS, AttemptChannel, Desk
from peerpath.signaling import Dialing, SignalingClosed, memory_pair
from unit.sdk.calls.people import OnlyErrors

ALICE, BOB = Identity.generate(), Identity.generate()


class Reception:
    """A desk at work, and the attempts that it has opened."""

    def __init__(self):
        self.far, near = memory_pair()
        self.opened: list[AttemptChannel] = []
        self.idle = 0
        self.desk = Desk(near, lambda _, channel: self.opened.append(channel), self._is_idle)
        self.running = asyncio.create_task(self.desk.run())

    def _is_idle(self):
        self.idle += 1

    async def put(self, *messages):
        for message in messages:
            await self.far.send(message)
        for _ in range(4 * len(messages) + 4):
            await asyncio.sleep(0)

    async def dial(self):
        dialing = Dialing(ALICE, BOB.public_key, now=0)
        await self.put(dialing.seal("offer", {}))
        return dialing


@pytest.fixture
async def reception():
    made = Reception()
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


async def test_each_attempt_gets_its_own_messages(reception):
    one, other = await reception.dial(), await reception.dial()
    messages = [dialing.seal("candidates", {}) for dialing in (other, one, other)]
    await reception.put(*messages)
    first, second = reception.opened
    assert await first.recv() == messages[1]
    assert [await second.recv(), await second.recv()] == [messages[0], messages[2]]


async def test_what_belongs_to_no_attempt_is_dropped(reception):
    stranger = Dialing(ALICE, BOB.public_key, now=0)
    stranger.seal("offer", {})
    await reception.put(b"", b"\0", secrets.token_bytes(200), stranger.seal("candidates", {}))
    assert reception.opened == []
    await reception.dial()
    assert len(reception.opened) == 1


async def test_so_many_attempts_at_once_and_more_when_some_are_over(reception):
    for _ in range(_MAX_ATTEMPTS + 5):
        await reception.dial()
    assert len(reception.opened) == _MAX_ATTEMPTS
    reception.opened[0].hang_up()
    await reception.dial()
    assert len(reception.opened) == _MAX_ATTEMPTS + 1
    assert reception.idle == 0


async def test_it_says_when_the_last_attempt_is_over(reception):
    await reception.dial()
    await reception.dial()
    for channel in reception.opened:
        channel.hang_up()
        channel.hang_up()
    assert reception.idle == 1


async def test_a_flood_for_one_attempt_is_bounded_and_stops_no_other(reception):
    flooding = await reception.dial()
    message = flooding.seal("candidates", {})
    await reception.put(*[message] * 200)
    await reception.dial()
    assert len(reception.opened) == 2
    taken = 0
    while True:
        try:
            async with asyncio.timeout(0.05):
                await reception.opened[0].recv()
        except TimeoutError:
            break
        taken += 1
    assert taken == 64


async def test_the_end_of_the_channel_is_the_end_for_every_attempt(reception):
    await reception.dial()
    reception.far.close()
    await asyncio.wait_for(reception.running, 5)
    with pytest.raises(SignalingClosed, match="closed"):
        await reception.opened[0].recv()


async def test_a_channel_that_fails_in_its_own_way_ends_as_well():
    class Broken:
        trickle = True

        def __init__(self, offer):
            self._messages = [offer]

        async def send(self, message): ...

        async def recv(self):
            if self._messages:
                return self._messages.pop()
            raise ConnectionResetError("the socket is gone")

    opened = []
    offer = Dialing(ALICE, BOB.public_key, now=0).seal("offer", {})
    await asyncio.wait_for(Desk(Broken(offer), lambda _, channel: opened.append(channel)).run(), 5)
    with pytest.raises(SignalingClosed, match="ConnectionResetError: the socket is gone"):
        await opened[0].recv()


async def test_a_channel_that_has_nothing_but_errors_keeps_nobody_else_from_running():
    reading = asyncio.create_task(Desk(OnlyErrors(), lambda *_: None).run())
    await asyncio.sleep(0.2)
    assert not reading.done()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
