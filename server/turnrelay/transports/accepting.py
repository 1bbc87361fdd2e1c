"""Acceptor: a listening TCP socket whose connections count from the moment they are accepted."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from turnrelay.policy.connection_limits import ConnectionLimits, Place

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_ACCEPT_PAUSE_SECONDS = 0.5

Welcome = Callable[[socket.socket, Place], Coroutine[Any, Any, None]]
"""What is done with a connection; it gives the place back when the connection ends."""


class Acceptor:
    """Accepts here and not by asyncio, so that a connection counts before it has said anything: otherwise
    whoever never finishes a handshake could hold any number of sockets."""

    def __init__(self, limits: ConnectionLimits, welcome: Welcome) -> None:
        self.port = 0
        self.refused = 0
        self._limits = limits
        self._welcome = welcome
        self._sock: socket.socket | None = None
        self._welcoming: set[asyncio.Task[None]] = set()

    def open(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, given: socket.socket | None = None
    ) -> None:
        """Starts listening; raises OSError. `given` is a listening socket that somebody else opened."""
        self._sock = given or listening_socket(host, port)
        self.port = self._sock.getsockname()[1]
        self._loop = loop
        loop.add_reader(self._sock, self._accept)

    @property
    def sock(self) -> socket.socket | None:
        """What it listens on, if it does."""
        return self._sock

    @property
    def welcoming(self) -> int:
        """Connections whose beginning is not over."""
        return len(self._welcoming)

    def stop_accepting(self) -> None:
        """Accepts nobody any more; connections that are being welcomed go on."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """Stops listening, and lets go of connections that are still being welcomed."""
        self.stop_accepting()
        for task in list(self._welcoming):
            task.cancel()

    def _accept(self) -> None:
        """Takes waiting connections, a bounded number."""
        assert self._sock is not None  # close() stops the calls
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._pause()
                return
            place = self._limits.admit(peer[0])
            if place is None:
                self.refused += 1
                sock.close()
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._welcome(sock, place))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)

    def _pause(self) -> None:
        """Out of descriptors or memory: a listening socket that stays readable must not busy the loop."""
        if self._sock is None:
            return
        self.refused += 1
        self._loop.remove_reader(self._sock)
        self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._accept)


def listening_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; raises OSError. `shared` lets others of this user listen there too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    sock.setblocking(False)
    return sock
