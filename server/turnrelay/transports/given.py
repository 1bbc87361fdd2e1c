"""GivenStreams: connections of clients that came to another process of the relay, and are served here."""

import asyncio
import socket
from collections.abc import Callable

from turnrelay.core.addresses import FiveTuple, Transport
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.transports.driver import Driver
from turnrelay.transports.stream import Given, StreamClients, StreamConnection


class GivenStreams:
    """They go on as if they had come here. TLS is spoken where they came, which counts them, too."""

    def __init__(self, driver: Driver, limits: ConnectionLimits, idle_seconds: float) -> None:
        self._limits = limits
        self.clients = {
            kind: StreamClients(driver, idle_seconds, kind) for kind in (Transport.TCP, Transport.TLS)
        }
        self._welcoming: set[asyncio.Task[None]] = set()

    def add(self, sock: socket.socket, given: Given) -> None:
        """Owns the socket."""
        place = None
        if given.path.transport is Transport.TCP:
            place = self._limits.take_over(given.path.client.host)
            if place is None:
                sock.close()
                return
        sock.setblocking(False)
        connection = StreamConnection(self.clients[given.path.transport], place, given)
        task = asyncio.get_running_loop().create_task(_welcome(sock, connection))
        self._welcoming.add(task)
        task.add_done_callback(self._welcoming.discard)

    def close_idle(self, is_in_use: Callable[[FiveTuple], bool]) -> None:
        """Closes those that hold nothing and were silent for too long."""
        for clients in self.clients.values():
            clients.close_idle(is_in_use)

    def close(self) -> None:
        for task in list(self._welcoming):
            task.cancel()
        for clients in self.clients.values():
            clients.close()


async def _welcome(sock: socket.socket, connection: StreamConnection) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
    except (OSError, asyncio.CancelledError) as error:
        sock.close()
        connection.connection_lost(error if isinstance(error, OSError) else None)
