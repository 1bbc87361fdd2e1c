"""Transport addresses by the part they play. Types keep a peer from being taken for a client."""

from enum import Enum
from typing import NamedTuple, NewType

from stunwire import AddressFamily, TransportAddress

ClientAddress = NewType("ClientAddress", TransportAddress)
"""Where a client's packets come from, as the server sees it (its server-reflexive address)."""

ServerAddress = NewType("ServerAddress", TransportAddress)
"""The listening address a client talks to."""

PeerAddress = NewType("PeerAddress", TransportAddress)
"""The far end that a client exchanges data with through the relay."""

RelayedAddress = NewType("RelayedAddress", TransportAddress)
"""The address on the server that peers see; the local one, before any external-address mapping."""


class Transport(Enum):
    """What carries messages between a client and the server (RFC 8656 section 3.1)."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    WEBSOCKET = "websocket"
    """TURN over WebSocket, for networks that let only HTTP out (docs/tunnel.md)."""

    # The name's hash, Enum's own, is computed in Python, and every 5-tuple is hashed many times a request.
    __hash__ = object.__hash__

    @property
    def reliable(self) -> bool:
        return self is not Transport.UDP


class FiveTuple(NamedTuple):
    """The path between a client and the server; it names an allocation (RFC 8656 section 3.2)."""

    transport: Transport
    server: ServerAddress
    client: ClientAddress


def family_of(host: str) -> AddressFamily:
    """The address family of a numeric host."""
    return AddressFamily.IPV6 if ":" in host else AddressFamily.IPV4
