"""first_success: who begins when, who wins, who is cancelled."""

import asyncio
import errno
import os

import pytest
from peerpath.errors import PeerpathError
from peerpath.net.racing import AllFailed, first_success


class Track:
    """Attempts that note what became of them."""

    def __init__(self):
        self.events = []

    def succeed(self, name, after=0.0):
        return lambda: self._run(name, after, None)

    def fail(self, name, after=0.0, error=None):
        return lambda: self._run(name, after, error or PeerpathError(f"{name} failed"))

    async def _run(self, name, after, error):
        self.events.append(f"{name} begins")
        try:
            await asyncio.sleep(after)
        except asyncio.CancelledError:
            self.events.append(f"{name} is cancelled")
            raise
        if error is not None:
            raise error
        return name


@pytest.fixture
def track():
    return Track()


async def test_the_first_success_wins_and_the_others_are_cancelled(track):
    attempts = [track.succeed("slow", 5), track.succeed("fast", 0.01), track.fail("bad")]

    assert await first_success(attempts) == "fast"
    assert track.events == ["slow begins", "fast begins", "bad begins", "slow is cancelled"]


async def test_with_a_stagger_the_next_begins_late(track):
    attempts = [track.succeed("first", 0.02), track.succeed("second")]

    assert await first_success(attempts, stagger=30) == "first"
    assert track.events == ["first begins"]


async def test_with_a_stagger_the_next_begins_at_once_after_a_failure(track):
    async with asyncio.timeout(20):
        assert await first_success([track.fail("first"), track.succeed("second")], stagger=30) == "second"


async def test_a_slow_one_does_not_hold_up_the_next(track):
    async with asyncio.timeout(20):
        assert await first_success([track.succeed("slow", 30), track.succeed("next")], stagger=0.05) == "next"
    assert track.events[-1] == "slow is cancelled"


async def test_when_all_fail_all_are_named(track):
    with pytest.raises(AllFailed, match=r"^b failed; a failed$") as failed:
        await first_success(
            [track.fail("a", 0.03), track.fail("b"), track.fail("c", 0.06, OSError("no route"))][:2]
        )
    assert len(failed.value.failures) == 2


async def test_nothing_to_try_is_a_failure():
    with pytest.raises(AllFailed, match="nothing to try"):
        await first_success([])


async def test_a_bug_is_not_a_failure(track):
    with pytest.raises(ZeroDivisionError):
        await first_success([track.succeed("slow", 5), track.fail("bug", error=ZeroDivisionError())])
    assert track.events[-1] == "slow is cancelled"


async def test_who_cancels_the_race_cancels_all(track):
    race = asyncio.ensure_future(first_success([track.succeed("a", 5), track.succeed("b", 5)]))
    await asyncio.sleep(0.01)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert sorted(track.events[2:]) == ["a is cancelled", "b is cancelled"]


async def test_of_two_that_succeed_at_the_same_moment_one_is_discarded(track):
    spare = []
    won = await first_success([track.succeed("a"), track.succeed("b")], discard=spare.append)
    assert sorted([won, *spare]) == ["a", "b"]


async def test_what_succeeds_although_it_is_cancelled_is_discarded(track):
    async def stubborn():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "late"

    spare = []
    assert await first_success([stubborn, track.succeed("first", 0.01)], discard=spare.append) == "first"
    assert spare == ["late"]


async def test_what_succeeds_when_nobody_waits_any_more_is_discarded(track):
    spare = []

    async def ends_with_the_race():
        race.cancel()
        return "too late"

    race = asyncio.ensure_future(
        first_success([ends_with_the_race, track.succeed("slow", 5)], discard=spare.append)
    )
    with pytest.raises(asyncio.CancelledError):
        await race
    assert spare == ["too late"]
    assert track.events[-1] == "slow is cancelled"


async def test_the_winner_is_discarded_if_the_race_is_cancelled_while_the_others_end(track):
    spare, ending = [], asyncio.Event()

    async def takes_its_time():
        try:
            await asyncio.sleep(5)
        finally:
            ending.set()
            await asyncio.sleep(0.01)

    race = asyncio.ensure_future(
        first_success([takes_its_time, track.succeed("winner", 0.01)], discard=spare.append)
    )
    await ending.wait()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert spare == ["winner"]


async def test_what_the_system_says_is_told_in_its_words_and_once(track):
    refused = OSError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 9)")
    attempts = [track.fail(str(number), error=refused) for number in range(2)]
    with pytest.raises(AllFailed, match=rf"^{os.strerror(errno.ECONNREFUSED)}$"):
        await first_success(attempts)
