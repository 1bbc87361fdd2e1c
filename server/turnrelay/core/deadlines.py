"""Deadlines: one heap of what must be looked at when."""

import heapq
from itertools import count
from typing import Protocol


class Timed(Protocol):
    """Something that must be looked at again at `wake_at`."""

    wake_at: float


class Deadlines:
    """The earliest moment at which any item needs attention.

    An item is woken at the earliest time it asked for, and asks again then. Refreshing an allocation
    therefore costs nothing here: its old entry pops, the item sees that it has not expired, and sleeps on.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._sequence = count()
        self._stale = 0

    def schedule(self, item: Timed, at: float) -> None:
        """Wakes `item` at `at`, unless it is woken earlier anyway."""
        if at < item.wake_at:
            if item.wake_at != NEVER:
                self._outdated()
            item.wake_at = at
            heapq.heappush(self._heap, (at, next(self._sequence), item))

    def cancel(self, item: Timed) -> None:
        """Never wakes `item`."""
        if item.wake_at != NEVER:
            item.wake_at = NEVER
            self._outdated()

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        heap = self._heap
        while heap and heap[0][2].wake_at != heap[0][0]:
            heapq.heappop(heap)
            self._stale -= 1
        return heap[0][0] if heap else None

    def due(self, now: float) -> Timed | None:
        """Takes one item whose time has come; it must be scheduled again to be woken again."""
        at = self.next()
        if at is None or at > now:
            return None
        item = heapq.heappop(self._heap)[2]
        item.wake_at = NEVER
        return item

    def _outdated(self) -> None:
        """Counts an entry that will wake nobody; when most are such they go, so churn keeps no memory."""
        self._stale += 1
        if self._stale > 1024 and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].wake_at == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0


NEVER = float("inf")
"""The `wake_at` of an item that waits for nothing."""
