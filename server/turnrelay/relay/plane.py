"""RelayPlane: the port behind which packets are moved, and the shapes that pass through it."""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from stunwire import AddressFamily

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, Transport
from turnrelay.core.outputs import Flow
from turnrelay.core.token_bucket import TokenBucket


class RelayHost(NamedTuple):
    """An address that relayed ports are opened on, and what peers see of it."""

    local: str
    advertised: str


class Opened(NamedTuple):
    """A relayed address, and the next higher port where that was reserved."""

    relay: RelayedAddress
    reserved: RelayedAddress | None


class NoRelayAddress(Exception):
    """No port is free, or the system gives no socket; the client gets 508."""


DROP_REASONS = (
    "bandwidth",
    "client_congested",
    "client_unreachable",
    "device_refused",
    "no_permission",
    "no_such_relay",
    "peer_congested",
    "peer_unreachable",
    "too_large",
)
"""All that `RelayPlane.drops` counts."""


@dataclass(slots=True)
class Traffic:
    """What was relayed for clients of one transport, as application data (headers not counted)."""

    packets_to_peer: int = 0
    bytes_to_peer: int = 0
    packets_from_peer: int = 0
    bytes_from_peer: int = 0

    def add(self, part: "Traffic") -> None:
        self.packets_to_peer += part.packets_to_peer
        self.bytes_to_peer += part.bytes_to_peer
        self.packets_from_peer += part.packets_from_peer
        self.bytes_from_peer += part.bytes_from_peer


class Bandwidth(Protocol):
    """The buckets of bytes that a relayed address spends from; None where no limit is set."""

    allocation: TokenBucket | None
    account: TokenBucket | None

    def release(self) -> None:
        """The relayed address is gone."""


class BandwidthPolicy(Protocol):
    """Who may relay how much a second."""

    def open(self, account: str, now: float) -> Bandwidth:
        """The buckets for a new relayed address of `account`."""


class RelayPlane(Protocol):
    """Moves packets of granted flows. It looks flows up and decides nothing."""

    def open(self, account: str, family: AddressFamily, *, even_port: bool, reserve_next: bool) -> Opened:
        """Opens a relayed address; raises NoRelayAddress."""

    def close(self, relay: RelayedAddress) -> None:
        """Ends a relayed address and every flow on it."""

    def give_away(self, relay: RelayedAddress) -> socket.socket:
        """Lets go of a relayed address without flows, for another process. The caller owns the socket. Until
        `close` nobody here gets its port."""

    def take_over(self, sock: socket.socket, account: str) -> RelayedAddress:
        """Owns what another process gave away."""

    def grant(self, flow: Flow, expires_at: float) -> None:
        """Lets the flow's packets pass until `expires_at`; a later grant extends it."""

    def revoke(self, flow: Flow) -> None:
        """Stops the flow's packets."""

    def send(self, relay: RelayedAddress, peer: PeerAddress, data: bytes, dont_fragment: bool) -> None:
        """Sends one datagram of a Send indication, whose permission was checked.

        What follows to that peer may pass without the core until the permission ends.
        """

    def forget_admitted(self) -> None:
        """Policy on peers has changed: the core is asked about each Send indication's again."""

    def traffic(self) -> dict[Transport, Traffic]:
        """What was relayed since the start, by the client's transport; live, not at the end of sessions."""

    def traffic_by_plane(self) -> dict[str, dict[Transport, Traffic]]:
        """The same, told apart by what moved it: "userspace" and, where there is one, "xdp"."""

    def traffic_of(self, relay: RelayedAddress) -> Traffic:
        """What one relayed address has relayed since it was opened; nothing for one that is not open."""

    def drops(self) -> dict[str, int]:
        """Packets not relayed, by reason."""

    def receive_drops(self) -> int:
        """Packets of peers that the kernel dropped, since a relayed address' buffer was full."""

    def ports(self) -> Iterable[tuple[int, int]]:
        """For each relay host, ports in use and in all."""


class Neighbours(Protocol):
    """The relayed addresses that other processes of this relay have open on the same machine."""

    def reach(self, relay: RelayedAddress, *, tcp: bool = False) -> tuple[str, int] | None:
        """Where such a relayed address, of UDP or of TCP, is on this machine; None if no other process has
        it."""

    def seen_from(self, host: str, port: int, *, tcp: bool = False) -> str | None:
        """The advertised host of the relayed address that is there; None if no other process has it."""


class ClientLinks(Protocol):
    """How a plane reaches clients; the transports provide it."""

    def link(self, path: FiveTuple) -> "ClientLink | None":
        """The client's link, or None if its connection is gone."""

    def release(self, path: FiveTuple) -> None:
        """No relayed address of the client is left."""


class ClientLink(Protocol):
    """One client as the data path sees it. The tables belong to the plane, the listener looks things up."""

    channels: dict[int, "Forwarder"]
    """By number."""
    admitted: dict[int, "Forwarder"]
    """Peers of Send indications, by what `relay.send_indications.peer_key` makes of them."""

    @property
    def address(self) -> object:
        """The second argument of `sendto`."""

    @property
    def padded(self) -> bool:
        """Whether ChannelData is padded to four bytes: on streams (RFC 8656 section 12.5)."""

    @property
    def sendto(self) -> Callable[[memoryview, Any], int]:
        """Sends a frame to `address`; raises BlockingIOError when the way is full.

        Shaped like `socket.sendto`, so that a UDP link is the socket's own method.
        """


class Forwarder(Protocol):
    """What the data path does with data for one peer."""

    def forward(self, data: memoryview, now: float) -> None:
        """Sends application data to the peer."""
