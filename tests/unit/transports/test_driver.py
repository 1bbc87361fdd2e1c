"""The driver measures what a request takes, the time in which a user is looked up with it; and a directory
that fails does not take the relay with it."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs
from stunwire import REQUESTED_TRANSPORT, Method
from turnrelay.core.events import RequestAnswered
from turnrelay.transports.driver import Driver
from unit.core.conftest import World
from unit.core.turn_client import HERE


class SlowDirectory:
    """Knows nobody, and needs to be let go on before it says so."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    def find_now(self, query, now_unix):
        return None

    async def find(self, query, now_unix):
        await self.may_answer.wait()
        return ()


async def test_an_answer_that_waited_for_the_user_directory_is_measured_from_its_request():
    world, directory = World(), SlowDirectory()
    client = world.client()
    client.greet(now=0)
    now = 0.0
    measured: list[tuple[RequestAnswered, float]] = []
    driver = Driver(
        world.server,
        directory,
        asyncio.get_running_loop(),
        lambda: now,
        lambda: now,
        answered=lambda answer, seconds: measured.append((answer, seconds)),
    )
    driver.receive(client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)), HERE)
    now = 1.5
    driver.receive(client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))[:3], HERE)
    now = 2.0
    directory.may_answer.set()
    async with asyncio.timeout(5):
        while not measured:
            await asyncio.sleep(0)
    await driver.close()
    assert [(answer.code, seconds) for answer, seconds in measured] == [(401, 2.0)]


class LockedDirectory:
    """Says that it cannot be read, at once or after a moment."""

    def __init__(self, at_once: bool) -> None:
        self._at_once = at_once

    def find_now(self, query, now_unix):
        if self._at_once:
            raise PermissionError("the folder is locked")

    async def find(self, query, now_unix):
        raise PermissionError("the folder is locked")


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after a moment"])
async def test_a_directory_that_fails_is_500_keeps_nothing_and_fills_no_log(at_once):
    world = World()
    client = world.client()
    client.greet(now=0)
    codes: list[int] = []
    now = 0.0
    driver = Driver(
        world.server,
        LockedDirectory(at_once),
        asyncio.get_running_loop(),
        lambda: now,
        lambda: now,
        answered=lambda answer, _: codes.append(answer.code),
    )
    with capture_logs() as lines:
        for _ in range(3):
            driver.receive(client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)), HERE)
            await settled(lambda: not world.state.pending_requests)
        assert [(line["log_level"], line["error"]) for line in lines] == [("error", "the folder is locked")]
        now = 60.0
        driver.receive(client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)), HERE)
        await settled(lambda: not world.state.pending_requests)
    await driver.close()
    assert codes == [500] * 4
    assert len(lines) == 2
    assert world.remnants() == {}


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
