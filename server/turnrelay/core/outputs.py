"""What the core decides, as values. This is the whole vocabulary; a driver carries each out."""

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


class Reply(NamedTuple):
    """One STUN response, to be sent on the path its request came by; or an indication to a client."""

    path: FiveTuple
    data: bytes


class LookUpKey(NamedTuple):
    """Answer at once, with `Server.key_found(ticket, candidates, now)` from what is in memory, with
    `Server.key_not_at_hand(ticket, now)`, or with `Server.key_unavailable(ticket, now)`."""

    ticket: int
    query: KeyQuery


class FetchKey(NamedTuple):
    """The keys that were not at hand. Answer with `Server.key_found(ticket, candidates, now)` or
    `Server.key_unavailable(ticket, now)` whenever it is known, or with `Server.key_given_up(ticket)`."""

    ticket: int
    query: KeyQuery
    stranger: str | None
    """The host of the client; None for the user of an allocation, which must not be kept waiting."""


class OpenRelay(NamedTuple):
    """Answer with `Server.relay_opened(ticket, ...)` or `Server.relay_failed(ticket, now)`."""

    ticket: int
    account: str
    """Whose bandwidth the relay spends."""
    family: AddressFamily
    even_port: bool = False
    reserve_next: bool = False
    """Hold the next higher port too, for a later RESERVATION-TOKEN; only with `even_port`."""
    tcp: bool = False
    """Peers are met over TCP there (RFC 6062); without `even_port`."""


class CloseRelay(NamedTuple):
    """The relayed address is free again."""

    relay: RelayedAddress


class Grant(NamedTuple):
    """The plane may move this flow's packets until `expires_at` (a later Grant of the flow extends it)."""

    flow: Flow
    expires_at: float


class Revoke(NamedTuple):
    """The plane must not move this flow's packets any more."""

    flow: Flow


class SendToPeer(NamedTuple):
    """One datagram of a Send indication; its permission was checked."""

    relay: RelayedAddress
    peer: PeerAddress
    data: bytes
    dont_fragment: bool


class ConnectToPeer(NamedTuple):
    """Answer with `Server.peer_connected(connection_id, now)` or `Server.peer_gone(connection_id, now)`."""

    connection_id: int
    relay: RelayedAddress
    peer: PeerAddress


class AcceptPeer(NamedTuple):
    """The connection that `Server.peer_arrived` told of goes by this number from now on."""

    arrival: int
    connection_id: int


class JoinPeer(NamedTuple):
    """From now on the client's connection `path` and the peer's carry each other's bytes, nothing else."""

    connection_id: int
    path: FiveTuple


class ClosePeer(NamedTuple):
    """The connection to a peer ends, and the client's that is joined to it."""

    connection_id: int


class AskForReservation(NamedTuple):
    """Process `member` gave this token out. Answer with `Server.reservation_came(ticket, relay, lease, now)`
    or `Server.reservation_missing(ticket, now)`; where neither comes, the core gives up by itself."""

    member: int
    ticket: int
    token: bytes
    account: str


class GiveReservation(NamedTuple):
    """The answer to the `ticket` of process `member`: the relayed address is that one's from now on, and
    `CloseRelay` frees nothing but its place here. Answer with `Server.reservation_taken(token)`."""

    member: int
    ticket: int
    token: bytes
    relay: RelayedAddress
    account: str
    client_host: str
    """Whose prefix it counts for."""


class RefuseReservation(NamedTuple):
    """The answer to the `ticket` of process `member`: there is none of that token for that account."""

    member: int
    ticket: int


class PassConnection(NamedTuple):
    """The client's connection belongs to process `member`, which is to get it as if `request` were the first
    that came by it."""

    path: FiveTuple
    member: int
    request: bytes


PeerConnectionOutput = ConnectToPeer | AcceptPeer | JoinPeer | ClosePeer
OutputToProcess = AskForReservation | GiveReservation | RefuseReservation | PassConnection
"""For another process of the relay; there are none where it has one process."""
Output = (
    Reply
    | LookUpKey
    | FetchKey
    | OpenRelay
    | CloseRelay
    | Grant
    | Revoke
    | SendToPeer
    | PeerConnectionOutput
    | OutputToProcess
    | Event
)
