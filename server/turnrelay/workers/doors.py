"""Doors: the supervisor's listening sockets. It opens them for the workers and reads from none."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from turnrelay.core.addresses import Transport
from turnrelay.transports.accepting import listening_socket
from turnrelay.transports.listeners import ListenError, Listeners, opening
from turnrelay.transports.udp import datagram_socket


@dataclass(frozen=True, slots=True)
class Door:
    """One address that is listened on, with a socket for each worker.

    The system spreads clients over the sockets by a hash of the 5-tuple. They stay open while a worker is
    away, so the others' clients stay where they are; its own wait in its socket until it is back.
    """

    kind: Transport
    host: str
    port: int
    sockets: tuple[socket.socket, ...]

    @classmethod
    def open(cls, kind: Transport, host: str, port: int, workers: int) -> "Door":
        """Raises OSError."""
        make = datagram_socket if kind is Transport.UDP else listening_socket
        # Whoever sets the option may join an address that another relay has; without it the system says no.
        make(host, port).close()
        sockets: list[socket.socket] = []
        try:
            for _ in range(workers):
                sockets.append(make(host, port, shared=True))
                port = sockets[-1].getsockname()[1]
        except OSError:
            for each in sockets:
                each.close()
            raise
        return cls(kind, host, port, tuple(sockets))

    def close(self) -> None:
        for each in self.sockets:
            each.close()


class Doors(Listeners):
    """In the place of the listeners; `opened` hears of doors that were opened after the first ones."""

    def __init__(self, *arguments: Any, workers: int, given: list[Door]) -> None:
        """`given` are doors that another relay had opened; each is taken once."""
        super().__init__(*arguments)
        self._workers = workers
        self._given_doors = given
        self._doors: dict[str, list[Door]] = {}
        self._more_doors: list[Door] = []
        self.opened: Callable[[Sequence[Door]], None] = lambda doors: None

    @property
    def hosts(self) -> list[str]:
        return list(self._doors)

    @property
    def doors(self) -> list[Door]:
        return [door for doors in self._doors.values() for door in doors] + self._more_doors

    def stop_listening(self) -> None:
        super().stop_listening()
        self._close_doors()

    def close(self) -> None:
        super().close()
        self._close_doors()

    def _close_doors(self) -> None:
        for door in self.doors:
            door.close()
        self._doors.clear()
        self._more_doors.clear()

    def _add(self, host: str) -> None:
        doors: list[Door] = []
        try:
            with opening(host, self.port, "--port"):
                doors.append(self._open(Transport.UDP, host, self.port))
                self.port = doors[0].port
                doors.append(self._open(Transport.TCP, host, self.port))
            if self._tls is not None:
                with opening(host, self.tls_port, "--tls-port"):
                    doors.append(self._open(Transport.TLS, host, self.tls_port))
                self.tls_port = doors[-1].port
        except ListenError:
            for door in doors:
                door.close()
            raise
        self._doors[host] = doors
        self.opened(doors)

    def _listen_for_udp_on(self, host: str, port: int) -> None:
        self._more_doors.append(self._open(Transport.UDP, host, port))

    def _open(self, kind: Transport, host: str, port: int) -> Door:
        for door in self._given_doors:
            if (door.kind, door.host) == (kind, host) and port in (0, door.port):
                self._given_doors.remove(door)
                return door
        return Door.open(kind, host, port, self._workers)
