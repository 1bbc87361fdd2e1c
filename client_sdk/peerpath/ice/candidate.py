"""Candidate: a transport address that may lead to a peer (RFC 8445 sections 5.1 and 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stunwire import TransportAddress

COMPONENT = 1
"""The only component: whoever needs two flows multiplexes them, as everybody does since RFC 5761."""
DISCARD_PORT = 9
"""The port of an active candidate, which nobody connects to (RFC 6544 section 4.5)."""


class CandidateType(StrEnum):
    """How an address was learned; the values are those of the SDP (RFC 8839 section 5.1)."""

    HOST = "host"
    SERVER_REFLEXIVE = "srflx"
    PEER_REFLEXIVE = "prflx"
    RELAYED = "relay"


class TcpType(StrEnum):
    """Who opens the connection of a TCP candidate (RFC 6544 section 4.5)."""

    ACTIVE = "active"
    PASSIVE = "passive"
    SIMULTANEOUS = "so"

    @property
    def opposite(self) -> TcpType:
        """The only type that it is paired with (section 6.2)."""
        return _OPPOSITES[self]


_OPPOSITES = {
    TcpType.ACTIVE: TcpType.PASSIVE,
    TcpType.PASSIVE: TcpType.ACTIVE,
    TcpType.SIMULTANEOUS: TcpType.SIMULTANEOUS,
}


class Technique(StrEnum):
    """What it took to have a way in at an address, beyond asking for it."""

    NONE = "none"
    PORT_MAPPING = "portmap"
    """The router was asked to forward a port."""
    PREDICTION = "predicted"
    """The port of a mapping was told beforehand."""
    BIRTHDAY = "birthday"
    """One of many sockets was hit by one of many guesses."""


_TCP_TYPES = frozenset(TcpType)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a peer gets to know of a candidate, and all that is known of a peer's.

    `address.host` is numeric, or a name that ends in `.local` (RFC 8828, resolved by multicast DNS).
    `related` is the base of a reflexive candidate and the mapped address of a relayed one; None or an
    unspecified address where the peer keeps it to itself. `ufrag` says to which ICE session it belongs.
    """

    type: CandidateType
    address: TransportAddress
    priority: int
    foundation: str
    component: int = COMPONENT
    transport: str = "udp"
    related: TransportAddress | None = None
    ufrag: str | None = None
    extensions: tuple[tuple[str, str], ...] = ()

    @property
    def is_name(self) -> bool:
        """Whether the address has to be resolved first (RFC 8828 section 3.2)."""
        return self.address.host.lower().endswith(".local")

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address.host

    @property
    def is_relayed(self) -> bool:
        """Whether it is a relay's. A peer-reflexive one with a type preference of 0 comes from a relayed base
        (see priority.py)."""
        if self.type is CandidateType.PEER_REFLEXIVE:
            return self.priority >> 24 == 0
        return self.type is CandidateType.RELAYED

    @property
    def is_tcp(self) -> bool:
        return self.transport.lower() == "tcp"

    @property
    def tcp_type(self) -> TcpType | None:
        """None for UDP, and for a TCP candidate that does not say it."""
        word = dict(self.extensions).get("tcptype", "").lower()
        return TcpType(word) if self.is_tcp and word in _TCP_TYPES else None

    def fits(self, other: Candidate) -> bool:
        """Whether a pair of the two makes sense: component, family, transport (RFC 6544 section 6.2)."""
        if (self.component, self.is_ipv6, self.is_tcp) != (other.component, other.is_ipv6, other.is_tcp):
            return False
        if not self.is_tcp:
            return True
        return self.tcp_type is not None and self.tcp_type.opposite is other.tcp_type


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """A candidate of this side, with what only this side needs to know."""

    candidate: Candidate
    base: TransportAddress
    """Where checks leave from: a socket's address, or the relayed address itself (RFC 8445 section 4)."""
    local_preference: int = 65535
    """Of its base, 0 to 65535; peer-reflexive candidates of the base inherit it."""
    server: str = ""
    """The server that it was learned from, in the words of the configuration."""
    technique: Technique = Technique.NONE
    via: str = "udp"
    """What carries a relayed candidate to its server: udp, tcp, tls, ws or wss."""
    proxy: str = ""
    """The kind of proxy that it goes through: http, socks5 or tor; empty without one."""

    @property
    def type(self) -> CandidateType:
        return self.candidate.type

    @property
    def address(self) -> TransportAddress:
        return self.candidate.address

    @property
    def priority(self) -> int:
        return self.candidate.priority

    @property
    def foundation(self) -> str:
        return self.candidate.foundation

    @property
    def way(self) -> str:
        """How its packets travel: "udp" or "tcp"; of a relayed one the way to its server.

        That is "turn-udp", "turn-tls", "turn-wss" ..., and through a proxy "turn-tls-http", "turn-tls-socks5"
        or "turn-tls-tor"; where the relay meets the peer over TCP "turn-tls-tcp", "turn-tls-tcp-http" ...
        """
        if self.type is not CandidateType.RELAYED:
            return self.candidate.transport
        return relay_way(self.via, self.proxy, to_tcp=self.candidate.is_tcp)

    @property
    def is_reflexive(self) -> bool:
        """Nothing can be sent from it directly, only from its base (RFC 8445 section 6.1.2.4)."""
        return self.type in (CandidateType.SERVER_REFLEXIVE, CandidateType.PEER_REFLEXIVE)


def relay_way(via: str, proxy: str, *, to_tcp: bool) -> str:
    """How packets travel by a relay that is reached in that way, and meets its peers over UDP or TCP."""
    return "-".join(["turn", via, *(["tcp"] if to_tcp else []), *([proxy] if proxy else [])])


def meets_tcp(way: str) -> bool:
    """Whether `way` is that of a relay which meets its peers over TCP."""
    return way.startswith("turn-") and way.split("-")[2:3] == ["tcp"]
