"""PathEvents: one event for each change of path, and when it falls silent, to as many as listen."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from peerpath.connection.path import Path, PathEvent
from peerpath.connection.waiting import Signal


class PathEvents:
    """Remembers the present path; each iterator begins with it. Slow ones lose the oldest events."""

    def __init__(self, limit: int) -> None:
        self.path: Path | None = None
        self.is_silent = False
        self._limit = limit
        self._queues: list[deque[PathEvent]] = []
        self._changed = Signal()
        self._ended = False

    def put(self, event: PathEvent) -> None:
        self.path, self.is_silent = event.path, event.is_silent
        for queue in self._queues:
            queue.append(event)
        self._changed.fire()

    def end(self) -> None:
        """The iterators end once they have handed out what they hold."""
        self._ended = True
        self._changed.fire()

    async def events(self) -> AsyncIterator[PathEvent]:
        queue: deque[PathEvent] = deque([PathEvent(self.path, is_silent=self.is_silent)], maxlen=self._limit)
        self._queues.append(queue)
        try:
            while True:
                while queue:
                    yield queue.popleft()
                if self._ended:
                    return
                await self._changed.wait()
        finally:
            # By identity: two iterators may hold equal events.
            self._queues = [each for each in self._queues if each is not queue]
