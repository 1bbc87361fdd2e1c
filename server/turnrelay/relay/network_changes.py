"""NetworkChanges: this machine's addresses or devices are not what they were."""

import asyncio
import socket
import sys
from contextlib import suppress
from typing import Self

from turnrelay.relay.kernel.netlink import open_changes

_SETTLE_SECONDS = 0.1
"""Changes come in groups: an address with its device."""
_MOST_BYTES = 1 << 16


class NetworkChanges:
    """Told by the kernel where that is Linux; elsewhere nothing is ever told."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            with suppress(OSError):  # a sandbox without netlink
                self._sockets = open_changes()
        for told in self._sockets:
            asyncio.get_running_loop().add_reader(told, self._read, told)
        return self

    def __exit__(self, *_: object) -> None:
        for told in self._sockets:
            asyncio.get_running_loop().remove_reader(told)
            told.close()
        self._sockets.clear()

    async def wait(self, most_seconds: float) -> None:
        """Returns soon after something changed, and at the latest after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_seconds):
                await self._changed.wait()
                await asyncio.sleep(_SETTLE_SECONDS)
        self._changed.clear()

    def _read(self, told: socket.socket) -> None:
        self._changed.set()
        # That something changed is all that is needed: what the kernel had no room to tell is no loss.
        with suppress(OSError):
            while told.recv(_MOST_BYTES):
                pass
