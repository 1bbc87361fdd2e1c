"""Device: one connection of a key, and what waits to be written to it."""

import asyncio
from collections import deque

from turnrelay.web.rendezvous.connection import Connection

MAX_WAITING_BYTES = 128 * 1024
_FRAME_OVERHEAD = 64
STALL_SECONDS = 10.0
"""A client that reads nothing for so long, while something waits for it, is gone or hostile."""


class Stalled(Exception):
    """The client does not read."""


class Device:
    """Frames go out in order through one writer, so that nobody who sends to this device waits for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self.replaced = asyncio.Event()
        """Set when newer devices of the key took this one's place."""

    def offer(self, frame: bytes) -> bool:
        """Puts a frame in the queue; False if it is full."""
        size = len(frame) + _FRAME_OVERHEAD
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            return False
        self._waiting.append(frame)
        self._waiting_bytes += size
        self._filled.set()
        return True

    async def put(self, frame: bytes) -> None:
        """Puts a frame in the queue, waiting for room: for what answers the device itself."""
        while not self.offer(frame):
            self._room.clear()
            await self._room.wait()

    async def write(self) -> None:
        """Writes what is offered, until it is cancelled; Stalled or ConnectionError end it, too."""
        while True:
            while self._waiting:
                frame = self._waiting.popleft()
                try:
                    async with asyncio.timeout(STALL_SECONDS):
                        await self._connection.send(frame)
                except TimeoutError:
                    raise Stalled from None
                self._waiting_bytes -= len(frame) + _FRAME_OVERHEAD
                self._room.set()
            self._filled.clear()
            await self._filled.wait()
