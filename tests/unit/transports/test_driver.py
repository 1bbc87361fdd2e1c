"""The driver measures what a request takes, the time in which a user is looked up with it."""

import asyncio

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
