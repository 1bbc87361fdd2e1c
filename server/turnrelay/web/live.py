"""LiveFigures: what the console draws, sampled at intervals and kept for some minutes."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from turnrelay.web.health import Readiness
from turnrelay.web.whole_relay import WholeRelay

_WATCHED_SECONDS = 2.0
_UNWATCHED_SECONDS = 10.0
"""To sample is to look at every relayed address, which takes milliseconds where there are thousands."""
_KEPT = 150
"""Samples: five minutes at the least."""


class Node(NamedTuple):
    """What does not change while the relay runs."""

    version: str
    plane: str
    started_at: float
    """Unix time."""
    ports: int
    """Relay ports in all."""


class LiveFigures:
    """One sampler for all who watch; a slow watcher misses samples, and costs no memory."""

    def __init__(
        self,
        node: Node,
        relay: WholeRelay,
        readiness: Readiness,
        traversals: Mapping[str, int],
        unix_time: Callable[[], float],
    ) -> None:
        """`traversals` holds how many traversals were reported so far, by outcome."""
        self._node = node
        self._relay = relay
        self._readiness = readiness
        self._traversals = traversals
        self._unix_time = unix_time
        self._samples: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._figures: dict[str, Any] = {}
        self._traffic: dict[str, int] = {}
        self._sampled_at = 0.0
        self._changed = asyncio.Condition()
        self._watchers = 0
        self._watched = asyncio.Event()
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Samples from now on, on the running loop."""
        self._sampling = asyncio.create_task(self._sample_on())

    def close(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()

    def history(self) -> list[dict[str, Any]]:
        """The samples of the last minutes, the oldest first."""
        return list(self._samples)

    def now(self) -> dict[str, Any]:
        """The state of the node, and its recent failures as of the last sample."""
        return {
            "node": {
                **self._node._asdict(),
                "ready": self._readiness.ready,
                "draining": self._readiness.draining,
                "ports_in_use": self._figures.get("ports_in_use", 0),
            },
            "failures": self._figures.get("failures", []),
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Somebody watches: samples come every two seconds."""
        self._watchers += 1
        self._watched.set()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    async def next_sample(self) -> dict[str, Any]:
        """Waits for the next sample."""
        async with self._changed:
            await self._changed.wait()
        return self._samples[-1]

    async def _sample_on(self) -> None:
        while True:
            self._samples.append(await self._sample())
            async with self._changed:
                self._changed.notify_all()
            await self._pause()

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(_UNWATCHED_SECONDS):
                await self._watched.wait()
        # Not at once for one who comes: a rate over a moment would be a peak or nothing.
        await asyncio.sleep(began + _WATCHED_SECONDS - loop.time())

    async def _sample(self) -> dict[str, Any]:
        self._figures = await self._relay.figures()
        at, traffic = self._unix_time(), self._figures["traffic"]
        before, elapsed = self._traffic, at - self._sampled_at
        self._traffic, self._sampled_at = traffic, at

        def rate(counter: str) -> float:
            # Nothing is before the first sample, and a counter that a process took along may fall.
            grown = traffic[counter] - before.get(counter, traffic[counter])
            return round(max(0, grown) / elapsed, 1) if elapsed > 0 else 0.0

        return {
            "at": round(at, 3),
            "sessions": self._figures["sessions"],
            **{counter: rate(counter) for counter in traffic},
            "traversals": dict(self._traversals),
        }
