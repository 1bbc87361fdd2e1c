"""Waiting until all that was sent has arrived, where nobody knows what that is."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

_PATIENCE = 20.0
"""Seconds that a busy machine is given."""


class Watched(Protocol):
    """Counts what it receives."""

    received: list[Counter[Any]]

    def collect(self) -> None:
        """Takes what has arrived."""

    def figures(self) -> object:
        """What the relay has counted."""


async def until_quiet_and_alike(watched: Sequence[Watched]) -> None:
    """Until nothing has moved for a while, anywhere, and all have the same; fails if they never have."""
    before: object = None
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        for one in watched:
            one.collect()
        now = [(one.figures(), [counter.copy() for counter in one.received]) for one in watched]
        if now == before and all(one == now[0] for one in now):
            return
        if asyncio.get_running_loop().time() > deadline:
            assert now == before, "it never ends"
            for one in now:
                assert one == now[0]
        before = now
