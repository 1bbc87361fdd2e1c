"""Channel: messages and descriptors between two processes, over a Unix socket pair."""

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from turnrelay.workers.messages import ChannelError, Decoder, Message, encode

_READ = 256 * 1024
_MOST_DESCRIPTORS = 200
"""In one call; the system takes 253."""
_MOST_WAITING = 32 * 1024 * 1024
"""Bytes that may wait for the other side; one that reads so little is as good as gone."""


class Channel:
    """One end, on an event loop. What is sent is never waited for; when the other side is gone, `on_lost`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        receive: Callable[[Message, list[int]], None],
        lost: Callable[[], None],
    ) -> None:
        """`receive` owns the descriptors that it is given."""
        sock.setblocking(False)
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._receive = receive
        self._lost = lost
        self._decoder = Decoder()
        self._descriptors: deque[int] = deque()
        self._waiting: deque[tuple[memoryview, list[int]]] = deque()
        self._waiting_bytes = 0
        loop.add_reader(sock, self._readable)

    def send(self, message: Message, files: Sequence[socket.socket | int] = ()) -> None:
        """Sends a message, in its turn, with copies of the files' descriptors."""
        if self._sock is None:
            return
        copies = [os.dup(file if isinstance(file, int) else file.fileno()) for file in files]
        data = encode(message, len(copies))
        self._waiting.append((memoryview(data), copies))
        self._waiting_bytes += len(data)
        if len(self._waiting) == 1:
            self._write()
        if self._waiting_bytes > _MOST_WAITING:
            self._break()

    def drain(self) -> None:
        """Receives what has come already."""
        while self._sock is not None and self._readable():
            pass

    def close(self) -> None:
        """Nothing more is sent or received."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        sock.close()
        for _, copies in self._waiting:
            _close_all(copies)
        self._waiting.clear()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _break(self) -> None:
        if self._sock is not None:
            self.close()
            self._loop.call_soon(self._lost)

    def _write(self) -> None:
        while self._sock is not None and self._waiting:
            data, copies = self._waiting[0]
            try:
                size = _send(self._sock, data, copies)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError:
                self._break()
                return
            _close_all(copies)
            self._waiting_bytes -= size
            if size < len(data):
                self._waiting[0] = (data[size:], [])
            else:
                self._waiting.popleft()
        if self._sock is not None:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> bool:
        """Receives once; False if there was nothing."""
        assert self._sock is not None  # close() stops the calls
        try:
            data, descriptors = _receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self._break()
            return False
        try:
            for message, count in self._decoder.feed(data):
                self._receive(message, [self._descriptors.popleft() for _ in range(count)])
        except (ChannelError, IndexError):
            self._break()
        return True


def _send(sock: socket.socket, data: memoryview, descriptors: list[int]) -> int:
    if not descriptors:
        return sock.send(data)
    if len(descriptors) > _MOST_DESCRIPTORS:
        raise OSError("too many descriptors for one message")
    numbers = array.array("i", descriptors)
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(_READ, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
    return data, list(numbers)


def _close_all(descriptors: list[int]) -> None:
    for each in descriptors:
        with suppress(OSError):
            os.close(each)
