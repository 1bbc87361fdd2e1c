"""Waits: how long a connection may take to come up, so that nobody waits for those who are silent or drip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_ROUND_TRIPS = 8
"""What a step takes at most, TLS 1.2 through a proxy, twice over."""
_LONGEST = 60.0
"""Seconds: no way is so slow that more is worth waiting for."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds for each step on the way to a server."""

    connect: float = 4.0
    """TCP: room for a SYN that is lost twice (RFC 6298: it is repeated after 1 s and 3 s)."""
    answer: float = 5.0
    """What comes after: the proxy's yes, TLS, the WebSocket, the allocation. More on a slow way."""

    def for_answer(self, round_trip: float) -> float:
        return max(self.answer, min(_ROUND_TRIPS * round_trip, _LONGEST))


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """TimeoutError saying in words that `what` was not there in time."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(f"no {what} within {round(seconds, 1):g} s") from None
