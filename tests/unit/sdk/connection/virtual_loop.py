"""An event loop whose clock jumps to the next timer: minutes of a connection's life in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Clock(selectors.DefaultSelector):
    """Waits for nothing: the time that it should have waited has passed."""

    now = 1000.0
    standing = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer is set: this would hang")
        self.now += max(timeout, 0.0)
        self.standing = 0 if timeout > 0 else self.standing + 1
        if self.standing > 100_000:
            raise RuntimeError("the clock stands still: somebody asks for the present time again and again")
        return super().select(0)


def run(main: Coroutine[Any, Any, T], within: float = 600.0) -> T:
    """Runs `main` on the virtual clock; TimeoutError after `within` virtual seconds."""
    clock = _Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(asyncio.wait_for(main, within))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
