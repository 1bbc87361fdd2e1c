"""GivenSockets: what this process listens on that another one had opened before."""

import socket
from collections.abc import Mapping

SHARED, HTTP = "shared", "http"
"""The kinds of sockets that are no Transport's."""

Kind = tuple[str, str, int]
"""A Transport's value, SHARED or HTTP; host; port."""


class GivenSockets:
    """Each is taken once, by whoever listens on its address; what nobody takes is closed in the end."""

    def __init__(self, sockets: Mapping[Kind, socket.socket] | None = None) -> None:
        self._sockets = dict(sockets or {})

    def add(self, kind: str, host: str, sock: socket.socket) -> None:
        self._sockets[kind, host, sock.getsockname()[1]] = sock

    def has(self, kind: str, host: str, port: int) -> bool:
        return self._find(kind, host, port) is not None

    def take(self, kind: str, host: str, port: int) -> socket.socket | None:
        """The socket of that address, None if there is none; port 0 is any."""
        found = self._find(kind, host, port)
        return None if found is None else self._sockets.pop(found)

    def take_all(self, kind: str) -> list[socket.socket]:
        """Those of one kind that nobody has taken."""
        return [self._sockets.pop(key) for key in list(self._sockets) if key[0] == kind]

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _find(self, kind: str, host: str, port: int) -> Kind | None:
        alike = [key for key in self._sockets if key[:2] == (kind, host) and port in (0, key[2])]
        return alike[0] if alike else None
