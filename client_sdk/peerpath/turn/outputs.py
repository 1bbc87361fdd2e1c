"""What a TURN client decides, as values. This is the whole vocabulary; a driver carries each out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stunwire import AddressFamily, Method, TransportAddress


class EndReason(Enum):
    """Why there is no allocation any more, in the words a person gets to read."""

    CLOSED = "closed by this side"
    REFUSED = "the server refused the allocation"
    NEW_FIVE_TUPLE_NEEDED = "the server still holds another allocation of this 5-tuple: use a new local port"
    REDIRECTED = "the server names another one"
    NO_ANSWER = "the server does not answer"
    INTEGRITY_VIOLATED = "every answer was forged, or sealed with another password"
    LOST = "the server no longer knows the allocation"
    EXPIRED = "the allocation could not be refreshed in time"
    DISCONNECTED = "the connection to the server is gone"


@dataclass(frozen=True, slots=True)
class Transmit:
    """One STUN message or ChannelData for the server: a datagram, or bytes of the stream (padded)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Allocated:
    """The allocation exists. `lifetime` is in seconds; it is refreshed without being asked."""

    relayed: tuple[TransportAddress, ...]
    """One address a family: IPv4 first where both were granted."""
    mapped: TransportAddress
    """This client as the server sees it: its server-reflexive address."""
    lifetime: int


@dataclass(frozen=True, slots=True)
class FamilyRefused:
    """Half of a dual allocation was not granted (ADDRESS-ERROR-CODE); follows `Allocated`."""

    family: AddressFamily
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refused a request for the allocation as a whole: Allocate or Refresh.

    A refused Allocate is followed by `Ended`. After a refused Refresh the allocation lives on until it
    expires, and the refresh is tried again. 486: the user's quota is spent, 508: the server has no room.
    """

    code: int
    reason: str
    during: Method


@dataclass(frozen=True, slots=True)
class PermissionInstalled:
    """Data to and from every port of `host` may pass from now on. Said once, not at each refresh."""

    host: str


@dataclass(frozen=True, slots=True)
class PermissionRefused:
    """The server does not let this client reach `host`, or not any more. `code` None: it did not answer."""

    host: str
    code: int | None


@dataclass(frozen=True, slots=True)
class ChannelBound:
    """Data for `peer` travels with four bytes of overhead from now on. Said once, not at each refresh."""

    peer: TransportAddress
    channel: int


@dataclass(frozen=True, slots=True)
class ChannelRefused:
    """Data for `peer` goes on in Send indications, if its host is permitted. `code` None: no answer."""

    peer: TransportAddress
    code: int | None


@dataclass(frozen=True, slots=True)
class PeerData:
    """One datagram from `peer`."""

    peer: TransportAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """The relay got an ICMP error for what it sent to `peer` (RFC 8656 section 11.5). A hint, no proof."""

    peer: TransportAddress
    icmp_type: int
    icmp_code: int


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The relay has a TCP connection with `peer`, as `connect` asked (RFC 6062 section 4.3).

    A data connection has to be bound to `connection_id` within 30 s.
    """

    peer: TransportAddress
    connection_id: int


@dataclass(frozen=True, slots=True)
class PeerNotConnected:
    """The relay has no TCP connection with `peer`. `code` None: it did not answer."""

    peer: TransportAddress
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class PeerArrived:
    """`peer` has connected to the relayed address (RFC 6062 section 4.4); to be bound as `PeerConnected`."""

    peer: TransportAddress
    connection_id: int


@dataclass(frozen=True, slots=True)
class TryAlternate:
    """Go to `server` instead, by the same transport; `Ended` follows.

    `domain` is the name that its certificate must bear, where TLS is used (RFC 8489 section 10); None: the
    name that was dialed first.
    """

    server: TransportAddress
    domain: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing comes after this; every later call returns nothing."""

    reason: EndReason


Output = (
    Transmit
    | Allocated
    | FamilyRefused
    | Refused
    | PermissionInstalled
    | PermissionRefused
    | ChannelBound
    | ChannelRefused
    | PeerData
    | PeerUnreachable
    | PeerConnected
    | PeerNotConnected
    | PeerArrived
    | TryAlternate
    | Ended
)
