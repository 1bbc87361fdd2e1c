"""Signal: something changed, look again. What coroutines of a connection wait for."""

from __future__ import annotations

import asyncio


class Signal:
    """Wakes everybody who waits; they look whether it was what they wait for, and wait again if not."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        """Wakes those who wait now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        """Until the next `fire`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
