"""Departure: how a relay comes to its end, at once or when its clients have gone."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog


class Departure:
    """`stop` is for SIGINT, `leave` for SIGTERM; whoever runs the relay waits for `over`."""

    def __init__(self, drain: Callable[[], Awaitable[None]], drain_seconds: float) -> None:
        """`drain` returns when no client has anything left to lose, and is given so many seconds."""
        self.over = asyncio.Event()
        self._drain = drain
        self._seconds = drain_seconds
        self._draining: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    def stop(self) -> None:
        """Now."""
        self.over.set()

    def leave(self) -> None:
        """When the last allocation has ended or the time is up; now, where it was asked for before."""
        if self._draining is not None or not self._seconds:
            self.stop()
        else:
            self._draining = asyncio.get_running_loop().create_task(self._leave())

    def close(self) -> None:
        """What still drains is not waited for."""
        if self._draining is not None:
            self._draining.cancel()

    async def _leave(self) -> None:
        self._log.info("draining: no new allocations, those that live go on", seconds=self._seconds)
        try:
            async with asyncio.timeout(self._seconds):
                await self._drain()
        except TimeoutError:
            self._log.warning("drain_timeout is over: the allocations that are left end now")
        else:
            self._log.info("drained: no allocation is left")
        self.stop()
