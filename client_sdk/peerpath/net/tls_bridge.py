"""TlsBridge: what is inside a TLS connection as a plain socket, so that TLS can go inside it once more."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

_PIECE = 65_536
_bridges: set[asyncio.Task[None]] = set()
"""Tasks are kept by whoever started them; a bridge lives as long as its connection."""


def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> socket.socket:
    """The near end, non-blocking; the bridge ends when either of its ends is closed."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    task = asyncio.get_running_loop().create_task(_carry(far, reader, writer))
    _bridges.add(task)
    task.add_done_callback(_bridges.discard)
    return near


async def _carry(far: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    ways = [asyncio.create_task(_outward(far, writer)), asyncio.create_task(_inward(reader, far))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far.close()
        writer.close()


async def _outward(far: socket.socket, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await loop.sock_recv(far, _PIECE):
            writer.write(data)
            await writer.drain()


async def _inward(reader: asyncio.StreamReader, far: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await reader.read(_PIECE):
            await loop.sock_sendall(far, data)
