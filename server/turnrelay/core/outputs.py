"""What the core decides, as values. This is the whole vocabulary; a driver carries each out."""

from dataclasses import dataclass
from typing import NamedTuple

from stunwire import AddressFamily

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress
from turnrelay.core.events import Event
from turnrelay.core.protocols import KeyQuery


class PermissionFlow(NamedTuple):
    """Everything from one peer host may reach the client, as Data indications (RFC 8656 section 9)."""

    path: FiveTuple
    relay: RelayedAddress
    peer_host: str


class ChannelFlow(NamedTuple):
    """Data between one channel of a client and one peer, both ways (RFC 8656 section 12)."""

    path: FiveTuple
    relay: RelayedAddress
    channel: int
    peer: PeerAddress


Flow = PermissionFlow | ChannelFlow


@dataclass(frozen=True, slots=True)
class Reply:
    """One STUN response, to be sent on the path its request came by."""

    path: FiveTuple
    data: bytes


@dataclass(frozen=True, slots=True)
class LookUpKey:
    """Answer with `Server.key_found(ticket, candidates, now)`."""

    ticket: int
    query: KeyQuery


@dataclass(frozen=True, slots=True)
class OpenRelay:
    """Answer with `Server.relay_opened(ticket, ...)` or `Server.relay_failed(ticket, now)`."""

    ticket: int
    account: str
    """Whose bandwidth the relay spends."""
    family: AddressFamily
    even_port: bool = False
    reserve_next: bool = False
    """Hold the next higher port too, for a later RESERVATION-TOKEN; only with `even_port`."""


@dataclass(frozen=True, slots=True)
class CloseRelay:
    """The relayed address is free again."""

    relay: RelayedAddress


@dataclass(frozen=True, slots=True)
class Grant:
    """The plane may move this flow's packets until `expires_at` (a later Grant of the flow extends it)."""

    flow: Flow
    expires_at: float


@dataclass(frozen=True, slots=True)
class Revoke:
    """The plane must not move this flow's packets any more."""

    flow: Flow


@dataclass(frozen=True, slots=True)
class SendToPeer:
    """One datagram of a Send indication; its permission was checked."""

    relay: RelayedAddress
    peer: PeerAddress
    data: bytes
    dont_fragment: bool


Output = Reply | LookUpKey | OpenRelay | CloseRelay | Grant | Revoke | SendToPeer | Event
