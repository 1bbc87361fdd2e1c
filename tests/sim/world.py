"""World: the virtual clock and what is going to happen."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

Action = Callable[[], None]


class World:
    """Time jumps from one event to the next. One seed makes one history (transaction IDs apart)."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self._events: list[tuple[float, int, Action]] = []
        self._serial = itertools.count()

    def at(self, moment: float, action: Action) -> None:
        heapq.heappush(self._events, (max(moment, self.now), next(self._serial), action))

    def after(self, delay: float, action: Action) -> None:
        self.at(self.now + delay, action)

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Lets time pass up to `until`, or until `done` says so."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
            if done is not None and done():
                return
        self.now = until


class Alarm:
    """Calls `ring` at a moment that may be moved; one per core, as a driver has it."""

    def __init__(self, world: World, ring: Action) -> None:
        self._world = world
        self._ring = ring
        self._set_for: float | None = None

    def set(self, moment: float | None) -> None:
        if moment is None:
            self._set_for = None
            return
        moment = max(moment, self._world.now)
        if moment == self._set_for:
            return
        self._set_for = moment
        self._world.at(moment, lambda: self._due(moment))

    def _due(self, moment: float) -> None:
        if self._set_for == moment:
            self._set_for = None
            self._ring()
