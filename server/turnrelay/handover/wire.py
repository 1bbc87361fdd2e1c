"""Wire: messages with descriptors between predecessor and successor, over a Unix socket pair. Blocking.

Whoever waits so does nothing else: nothing is read of which nobody knows yet whose it is.
"""

import array
import asyncio
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from os import close as close_descriptor

_HEADER = struct.Struct("!8sII")
"""Kind, bytes that follow, and descriptors behind them."""
_MOST_BYTES = 1 << 30
_MOST_DESCRIPTORS = 1 << 20
_AT_ONCE = 200
"""Descriptors with one byte; the system takes 253."""

OFFER, READY, HOLDINGS, SERVING, FAILED = "offer", "ready", "holdings", "serving", "failed"
"""In the order in which they are said; `failed` is the successor's in the place of any of its own."""
WRITTEN, RESTORED = "written", "restored"
"""What workers say to their supervisors: one that holdings are sent, its heir that they are taken."""


class WireError(Exception):
    """The other side is gone, silent, or says what nobody understands."""


class Wire:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, kind: str, body: bytes = b"", descriptors: Sequence[int] = (), *, seconds: float) -> None:
        """All of it within so many seconds, or WireError. The descriptors stay the caller's, too."""
        deadline = time.monotonic() + seconds
        try:
            self._wait_until(deadline)
            # In one piece: whoever has read all that there is may be gone at once.
            self._sock.sendall(_HEADER.pack(kind.encode(), len(body), len(descriptors)) + body)
            for first in range(0, len(descriptors), _AT_ONCE):
                self._wait_until(deadline)
                numbers = array.array("i", descriptors[first : first + _AT_ONCE])
                self._sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        except OSError as error:
            raise _lost(error) from None

    def receive(self, *, seconds: float) -> tuple[str, bytes, list[int]]:
        """Kind, body and descriptors, which are the caller's to close."""
        deadline = time.monotonic() + seconds
        descriptors: list[int] = []
        try:
            kind, size, count = _HEADER.unpack(self._read(_HEADER.size, deadline))
            if size > _MOST_BYTES or count > _MOST_DESCRIPTORS:
                raise WireError(f"a message of {size} bytes with {count} descriptors is none of ours")
            body = self._read(size, deadline)
            while len(descriptors) < count:
                self._wait_until(deadline)
                descriptors += self._read_descriptors()
        except OSError as error:
            close_all(descriptors)
            raise _lost(error) from None
        except WireError:
            close_all(descriptors)
            raise
        return kind.rstrip(b"\0").decode("ascii", "replace"), body, descriptors

    def close(self) -> None:
        self._sock.close()

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            self._wait_until(deadline)
            read = self._sock.recv_into(view[done:])
            if not read:
                raise ConnectionResetError
            done += read
        return bytes(data)

    def _read_descriptors(self) -> list[int]:
        room = socket.CMSG_SPACE(_AT_ONCE * array.array("i").itemsize)
        data, ancillary, flags, _ = self._sock.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        numbers = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
        if not data:
            raise ConnectionResetError
        if not numbers or flags & socket.MSG_CTRUNC:
            close_all(numbers)
            raise WireError("descriptors did not arrive: the limit of open files may be too low")
        return list(numbers)

    def _wait_until(self, deadline: float) -> None:
        self._sock.settimeout(max(0.001, deadline - time.monotonic()))


async def until_readable(sock: socket.socket, seconds: float) -> None:
    """Raises TimeoutError. The loop runs meanwhile."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        async with asyncio.timeout(seconds):
            await readable.wait()
    finally:
        loop.remove_reader(sock)


def _lost(error: OSError) -> WireError:
    if isinstance(error, TimeoutError):
        return WireError("the other process says nothing")
    if isinstance(error, ConnectionError):
        return WireError("the other process is gone")
    return WireError(str(error))


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            close_descriptor(descriptor)
