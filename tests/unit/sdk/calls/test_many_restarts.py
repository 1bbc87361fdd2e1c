"""A peer that was let in asks for one route after the other: only so many are open at once."""

import asyncio
import time
from typing import Any

from peerpath import Contacts
from peerpath.calls.attempt import MAX_ROUTES_AT_ONCE
from peerpath.calls.bodies import Kind
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.role import Role
from peerpath.signaling import Dialing, memory_pair
from unit.sdk.calls.people import ALICE, BOB, Person, nothing_left, until

FLOOD = 30


class Slow(Person):
    """Whose routes take their time to close, as those with relays do."""

    def __init__(self) -> None:
        super().__init__(BOB, authorize=Contacts([ALICE.public_key]))
        self.opened = 0
        self.may_close = asyncio.Event()

    def _endpoint(self, role: Role, **_: Any) -> IceEndpoint:
        self.opened += 1
        slow = IceEndpoint(role, hosts=lambda: ["127.0.0.1"])
        close = slow.close

        async def close_later() -> None:
            await self.may_close.wait()
            await close()

        slow.close = close_later
        return slow


async def test_only_so_many_routes_are_open_at_once_and_more_when_some_are_closed():
    there, back = memory_pair()
    dialing = Dialing(ALICE, BOB.public_key, now=time.time())
    callee = Slow()

    async def say(kind: Kind, **body: Any) -> None:
        await there.send(dialing.seal(kind, {"ufrag": "abcdefgh", "password": "a" * 24, **body}))

    async def answered(kind: Kind, route: int) -> bool:
        while True:
            heard, body = dialing.open(await there.recv())
            if (heard, body.get("route")) == (kind, route):
                return True

    async with nothing_left(), callee, callee.listen(back) as calls:
        await say(Kind.OFFER, route=0, session="00" * 16)
        assert await asyncio.wait_for(answered(Kind.ANSWER, 0), 10)
        [answerer] = calls._reception._answerers.values()
        [report] = answerer.report.attempts
        for route in range(1, FLOOD):
            await say(Kind.RESTART, route=route)
        await say(Kind.OFFER, route=0)  # a mistake, which is noted: everything before it was read
        await until(lambda: any("that is for the listener to say" in step.text for step in report.steps))
        callee.may_close.set()
        assert callee.opened == 2 * MAX_ROUTES_AT_ONCE
        await until(lambda: not answerer.attempt._dropped)
        await say(Kind.RESTART, route=FLOOD)
        assert await asyncio.wait_for(answered(Kind.RESTARTED, FLOOD), 10)
