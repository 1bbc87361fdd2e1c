"""LoopLag: a timer that measures how late it is."""

import asyncio
from collections.abc import Callable

_INTERVAL_SECONDS = 0.5


class LoopLag:
    """Two timer callbacks a second, so that measuring costs nothing worth measuring."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_INTERVAL_SECONDS, self._fired, loop, loop.time() + _INTERVAL_SECONDS)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fired(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(0.0, loop.time() - due))
        self.start()
