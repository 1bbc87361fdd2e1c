"""Alarm: wakes whoever drives a sans-IO core when the core wants to hear of the time."""

import asyncio
from collections.abc import Callable


class Alarm:
    """One timer of the event loop, for the nearest deadline."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, deadline: float | None) -> None:
        """For `deadline`, seconds of the loop's clock; None for never.

        It may ring before: a timer that is set costs less than one that is moved, and who finds nothing due
        sets it anew.
        """
        if self._timer is not None:
            if deadline is not None and self._timer.when() <= deadline:
                return
            self.cancel()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._go_off)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        self._ring()
