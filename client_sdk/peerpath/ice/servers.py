"""The servers that candidates are gathered from, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stunwire import TransportAddress

from peerpath.turn.credentials import LongTermCredentials


@dataclass(frozen=True, slots=True)
class GatheringServer:
    """A STUN server, or with credentials a TURN server, reached over UDP from the agent's own sockets."""

    name: str
    """As it was configured, for reports."""
    address: TransportAddress
    credentials: LongTermCredentials | None = None
    index: int = 0
    """Its place in the configuration: earlier ones are asked first, and their relays preferred."""

    @property
    def is_turn(self) -> bool:
        return self.credentials is not None


class Inquiry(StrEnum):
    """What a server is asked for."""

    BINDING = "server-reflexive address"
    ALLOCATION = "relayed address"
    TCP_ALLOCATION = "relayed address for TCP"
    PORT_MAPPING = "port mapping"
    """Of a gateway, which is no server of ICE: what there is to say about it is the same."""


_NO_ANSWER = "no answer yet"
SKIPPED = "not tried: "
"""What the reason of a server begins with that was not asked."""


@dataclass(slots=True)
class ServerReport:
    """One inquiry at one server from one base. Times are seconds of the caller's clock."""

    server: str
    inquiry: Inquiry
    transport: str
    base: TransportAddress | None
    """None for a connection, which has a port of its own."""
    begun_at: float
    settled_at: float | None = None
    result: TransportAddress | None = None
    reason: str = _NO_ANSWER
    proxy: str = ""
    """The kind of proxy in between: http, socks5 or tor; empty without one."""

    @property
    def is_settled(self) -> bool:
        return self.settled_at is not None

    @property
    def seconds(self) -> float | None:
        """How long it took to get an answer, or to give up."""
        return None if self.settled_at is None else self.settled_at - self.begun_at

    def begin(self, now: float) -> None:
        """Asked only now, perhaps after it had been skipped."""
        self.begun_at, self.settled_at, self.reason = now, None, _NO_ANSWER

    def succeeded(self, result: TransportAddress, now: float) -> None:
        if not self.is_settled:
            self.result, self.settled_at, self.reason = result, now, ""

    def failed(self, reason: str, now: float) -> None:
        if not self.is_settled:
            self.reason, self.settled_at = reason, now
