"""Waiting until all that was sent has arrived, where nobody knows what that is."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol


class Watched(Protocol):
    """Counts what it receives."""

    received: list[Counter[Any]]

    def collect(self) -> None:
        """Takes what has arrived."""

    def figures(self) -> object:
        """What the relay has counted."""


async def until_quiet(watched: Sequence[Watched]) -> None:
    """Until nothing has moved for a while, anywhere."""
    before: object = None
    for _ in range(200):
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        for one in watched:
            one.collect()
        now = [(one.figures(), [counter.copy() for counter in one.received]) for one in watched]
        if now == before:
            return
        before = now
