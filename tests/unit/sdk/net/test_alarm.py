"""The timer of a driver, on the real event loop."""

import asyncio

import pytest
from peerpath.net.alarm import Alarm

SOON = 0.02
FAR = 3600.0


class Sleeper:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.alarm = Alarm(self.loop, self._ring)
        self.rung = 0
        self._woken = asyncio.Event()

    def set(self, seconds: float) -> None:
        self.alarm.set(self.loop.time() + seconds)

    def _ring(self) -> None:
        self.rung += 1
        self._woken.set()

    async def wake(self) -> None:
        async with asyncio.timeout(20):
            await self._woken.wait()
        self._woken.clear()


@pytest.fixture
async def sleeper() -> Sleeper:
    return Sleeper()


async def test_it_rings_once_for_each_time_it_is_set(sleeper: Sleeper) -> None:
    for count in (1, 2):
        sleeper.set(SOON)
        await sleeper.wake()
        await asyncio.sleep(2 * SOON)
        assert sleeper.rung == count


async def test_an_earlier_deadline_counts(sleeper: Sleeper) -> None:
    sleeper.set(FAR)
    sleeper.set(SOON)
    await sleeper.wake()
    assert sleeper.rung == 1


async def test_it_may_ring_early_for_a_later_deadline_and_is_then_set_anew(sleeper: Sleeper) -> None:
    sleeper.set(SOON)
    sleeper.set(2 * SOON)
    await sleeper.wake()
    sleeper.set(SOON)
    await sleeper.wake()
    assert sleeper.rung == 2


@pytest.mark.parametrize("silence", [lambda alarm: alarm.set(None), lambda alarm: alarm.cancel()])
async def test_it_can_be_silenced(sleeper: Sleeper, silence) -> None:
    sleeper.set(SOON)
    silence(sleeper.alarm)
    await asyncio.sleep(3 * SOON)
    assert sleeper.rung == 0
