"""Alternates: the servers that clients are sent to while this one drains (RFC 8489 section 10)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stunwire import (
    ALTERNATE_DOMAIN,
    ALTERNATE_SERVER,
    AddressFamily,
    Attribute,
    Integrity,
    TransportAddress,
)

from turnrelay.core.addresses import FiveTuple, Transport, family_of

_OTHER = {AddressFamily.IPV4: AddressFamily.IPV6, AddressFamily.IPV6: AddressFamily.IPV4}


@dataclass(frozen=True, slots=True)
class AlternateServer:
    """Another server that serves the same users, on the same ports as this one."""

    host: str
    domain: str | None = None
    """A name in its certificate, where that is another certificate than this server's."""

    def __str__(self) -> str:
        return self.host if self.domain is None else f"{self.host}/{self.domain}"


class Alternates:
    """Each of a family in its turn."""

    def __init__(self, servers: Iterable[AlternateServer] = ()) -> None:
        self._servers: dict[AddressFamily, list[AlternateServer]] = {}
        for server in servers:
            self._servers.setdefault(family_of(server.host), []).append(server)

    def next_for(self, path: FiveTuple, integrity: Integrity) -> list[tuple[Attribute[Any], Any]]:
        """The attributes of a 300 response to a request of that integrity; none where there is no server of
        the client's family. A tunnel is reached by its URL, which an address does not replace."""
        family = family_of(path.client.host)
        if path.transport is Transport.WEBSOCKET or family not in self._servers:
            return []
        first = self._turn(family)
        attributes = [_server(first, path)]
        if _OTHER[family] in self._servers:
            attributes.append(_server(self._turn(_OTHER[family]), path))
        # The client's integrity shows that it knows the attribute.
        if first.domain and path.transport is Transport.TLS and integrity & Integrity.SHA256:
            attributes.append((ALTERNATE_DOMAIN, first.domain))
        return attributes

    def _turn(self, family: AddressFamily) -> AlternateServer:
        servers = self._servers[family]
        servers.append(servers.pop(0))
        return servers[-1]


def _server(server: AlternateServer, path: FiveTuple) -> tuple[Attribute[Any], Any]:
    return ALTERNATE_SERVER, TransportAddress(server.host, path.server.port)
