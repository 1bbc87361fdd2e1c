"""State: everything the server remembers. Procedures read and change it; it decides nothing."""

import secrets
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from os import urandom

from stunwire import AddressFamily, Integrity, Message, PasswordAlgorithm

from turnrelay.core.addresses import ClientAddress, FiveTuple, PeerAddress, RelayedAddress, Transport
from turnrelay.core.allocation import Allocation, PeerCheck
from turnrelay.core.alternates import Alternates
from turnrelay.core.deadlines import NEVER, Deadlines
from turnrelay.core.events import Throttle
from turnrelay.core.limits import RETRANSMISSION_WINDOW, Limits
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.protocols import (
    Credential,
    DenyRule,
    KeyQuery,
    Lease,
    PeerAccess,
    Processes,
    Quotas,
    RateLimit,
)


class Discard(Enum):
    """Why a message got no answer and came to nothing."""

    MALFORMED = "malformed"
    """It is no STUN message, or lacks what its kind needs."""
    SEND_WITHOUT_ALLOCATION = "send_without_allocation"
    SEND_WITHOUT_PERMISSION = "send_without_permission"

    __hash__ = object.__hash__  # anybody can send these, as fast as he likes


@dataclass(slots=True)
class Request:
    """A request whose sender is known: the message, where it came from, and what proves the answer."""

    message: Message
    path: FiveTuple
    credential: Credential
    key: bytes
    integrity: Integrity
    """What the response is signed with."""


@dataclass(slots=True)
class PendingRequest:
    """A request that waits for the keys of its user."""

    message: Message
    path: FiveTuple
    query: KeyQuery
    algorithm: PasswordAlgorithm
    paid_from: Throttle | None = None
    """Which rate pays for its wait, where the keys are not at hand, and for the answer to it."""
    cancelled: bool = False
    """The client's connection closed in the meantime."""


@dataclass(slots=True)
class PendingAllocation:
    """An Allocate that waits for its relayed addresses."""

    request: Request
    lease: Lease | None
    """None while another process is asked for a reservation, which is paid for."""
    lifetime: int
    families: list[AddressFamily]
    waiting: int
    opened: dict[AddressFamily, RelayedAddress] = field(default_factory=dict)
    failed: list[AddressFamily] = field(default_factory=list)
    reserved: RelayedAddress | None = None
    reserved_lease: Lease | None = None
    tcp: bool = False
    cancelled: bool = False
    """The client's connection closed in the meantime."""


@dataclass(slots=True)
class Reservation:
    """A relayed address held for a RESERVATION-TOKEN (RFC 8656 section 7.2)."""

    token: bytes
    relay: RelayedAddress
    account: str
    client_host: str
    """Where the client that made it came from, whose prefix it counts for."""
    lease: Lease
    """A reserved port counts as the allocation that it is kept for."""
    given: bool = False
    """To another process, whose relayed address it is; it is paid for here until that one does."""
    wake_at: float = NEVER


@dataclass(slots=True, eq=False)
class AskedReservation:
    """A reservation that another process is asked for."""

    ticket: int
    pending: PendingAllocation
    wake_at: float = NEVER


@dataclass(slots=True, eq=False)
class PeerConnection:
    """A TCP connection between a relayed address and a peer (RFC 6062 section 3).

    It is being made while `request` waits, then waits for its ConnectionBind, then carries data.
    """

    connection_id: int
    allocation: Allocation
    peer: PeerAddress
    expires_at: float
    """When it is given up, unless it is bound by then."""
    request: Request | None = None
    """The Connect that waits for its answer."""
    data_path: FiveTuple | None = None
    """The client's data connection, once it is bound."""
    wake_at: float = NEVER


class RememberedReplies:
    """Answers to requests that must not be carried out twice, for as long as they may be retransmitted.

    Bounded: under pressure the oldest go first, and a retransmission then meets 437, which a client takes
    as the loss of an allocation that it has never heard of.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._replies: OrderedDict[tuple[FiveTuple, bytes], tuple[int | None, bytes, float]] = OrderedDict()
        """By path and transaction: the hash of the request, its answer, and when that is forgotten."""

    def __len__(self) -> int:
        return len(self._replies)

    def remember(self, request: Request, reply: bytes, now: float) -> None:
        if request.path.transport.reliable:
            return
        message = request.message
        key = (request.path, message.transaction_id)
        self._replies[key] = (hash(message.received), reply, now + RETRANSMISSION_WINDOW)
        self.forget_old(now)
        if len(self._replies) > self._capacity:
            self._replies.popitem(last=False)

    def recall(self, path: FiveTuple, message: Message, now: float) -> bytes | None:
        """The answer to the same bytes (RFC 8489 section 6.3.1) from the same client, else None."""
        remembered = self._replies.get((path, message.transaction_id))
        if remembered is None:
            return None
        digest, reply, forget_at = remembered
        if forget_at <= now or digest not in (hash(message.received), None):
            return None
        return reply

    def items(self) -> list[tuple[FiveTuple, bytes, bytes, float]]:
        """Path, transaction ID, answer, and when it is forgotten; the oldest first."""
        return [(*key, reply, forget_at) for key, (_, reply, forget_at) in self._replies.items()]

    def take_over(self, path: FiveTuple, transaction_id: bytes, reply: bytes, forget_at: float) -> None:
        """Another process' answer. The hash of the request means nothing in this one, so the transaction
        alone tells it; the oldest come first."""
        self._replies[path, transaction_id] = None, reply, forget_at

    def forget_old(self, now: float) -> None:
        while self._replies:
            oldest = next(iter(self._replies))
            if self._replies[oldest][2] > now:
                return
            del self._replies[oldest]


class State:
    """All tables of one server, and the policy it asks."""

    def __init__(
        self,
        *,
        realm: str,
        nonces: NonceAuthority,
        peers: PeerAccess,
        quotas: Quotas,
        rate_limit: RateLimit,
        limits: Limits,
        families: frozenset[AddressFamily],
        tcp_relays: bool,
        processes: Processes,
        alternates: Alternates,
    ) -> None:
        self.realm = realm
        self.nonces = nonces
        self.peers = peers
        self.quotas = quotas
        self.rate_limit = rate_limit
        self.limits = limits
        self.families = families
        """The families that relayed addresses can be had of."""
        self.tcp_relays = tcp_relays
        """Whether TCP connections with peers are relayed, too (RFC 6062)."""
        self.draining = False
        """Whether no further allocation is made, since the server is to stop."""
        self.alternates = alternates
        self.processes = processes
        self.allocations: dict[FiveTuple, Allocation] = {}
        self.by_relay: dict[RelayedAddress, Allocation] = {}
        self.pending_requests: dict[int, PendingRequest] = {}
        self.pending_allocations: dict[int, tuple[PendingAllocation, AddressFamily]] = {}
        self.allocating: dict[FiveTuple, PendingAllocation] = {}
        self.waiting: set[tuple[FiveTuple, bytes]] = set()
        """Transactions that are pending; their retransmissions are ignored."""
        self.reservations: dict[bytes, Reservation] = {}
        self.asked_reservations: dict[int, AskedReservation] = {}
        """By ticket."""
        self.peer_connections: dict[int, PeerConnection] = {}
        """By CONNECTION-ID."""
        self.data_paths: dict[FiveTuple, PeerConnection] = {}
        """By the client's data connection, which is no STUN connection any more."""
        self.replies = RememberedReplies(limits.remembered_replies)
        self.deadlines = Deadlines()
        self.challenges: dict[tuple[int, int], tuple[bytes, bytes, bytes]] = {}
        """By method and code, what is around the transaction ID and the nonce of a challenge."""
        self.discards: Counter[Discard] = Counter()
        """Since the start; those to denied peers and over a rate are events."""
        self._ticket = 0

    def ticket(self) -> int:
        """A number for one question to the driver."""
        self._ticket += 1
        return self._ticket

    def check_peer(self, peer: PeerAddress) -> DenyRule | None:
        """Policy's word on a peer; a relayed address of this relay that is in use is always a fair peer.

        Deny rules cover this machine's own addresses, yet two clients of one relay must reach each other.
        """
        return self._check(peer, tcp=False)

    def check_tcp_peer(self, peer: PeerAddress) -> DenyRule | None:
        """Likewise for a TCP connection: what relays UDP on a port says nothing of its TCP side."""
        return self._check(peer, tcp=True)

    def check_peer_of(self, allocation: Allocation) -> PeerCheck:
        """The one of the two that is for the peers of this allocation."""
        return self.check_tcp_peer if allocation.tcp else self.check_peer

    def nonce_holder(self, path: FiveTuple) -> ClientAddress:
        """Whom a nonce is bound to. With TCP relays a client goes on with one nonce on its data connections,
        so there it is the client's host: where a handshake proved the address, the port adds little."""
        if self.tcp_relays and path.transport in (Transport.TCP, Transport.TLS):
            return ClientAddress(path.client._replace(port=0))
        return path.client

    def holds(self, path: FiveTuple) -> bool:
        """Whether a client's connection is in use, though it may be silent."""
        return path in self.allocations or path in self.data_paths

    def _check(self, peer: PeerAddress, *, tcp: bool) -> DenyRule | None:
        relay = RelayedAddress(peer)
        owner = self.by_relay.get(relay)
        if owner is not None and owner.tcp is tcp:
            return None
        if self.processes.other_has(relay, tcp=tcp):
            return None
        return self.peers.check(peer)

    @staticmethod
    def new_id() -> str:
        """A name for an allocation in logs: 12 hexadecimal characters, unique enough and telling nothing."""
        return urandom(6).hex()

    def new_connection_id(self) -> int:
        """A CONNECTION-ID that is not in use: 32 bits, not 0 (RFC 6062 section 6.2.1).

        Guessing one is of no use: only the user of the allocation may bind it.
        """
        while True:
            connection_id = self.processes.member << 24 | secrets.randbits(24)
            if connection_id and connection_id not in self.peer_connections:
                return connection_id

    def new_token(self) -> bytes:
        """A RESERVATION-TOKEN nobody can guess: 8 bytes (RFC 8656 section 18.9)."""
        return bytes((self.processes.member,)) + secrets.token_bytes(7)
