"""Server: the sans-IO TURN server. Bytes and time in, outputs out."""

from collections.abc import Callable, Sequence

from stunwire import (
    PADDING,
    RESPONSE_PORT,
    UNKNOWN_ATTRIBUTES,
    AddressFamily,
    DecodeError,
    ErrorCode,
    Message,
    MessageClass,
    Method,
)

from turnrelay.core import allocate, behaviour_discovery, connect, replies, reservation
from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress
from turnrelay.core.allocation import Allocation
from turnrelay.core.alternates import Alternates
from turnrelay.core.authentication import Unauthenticated, asks_for, authenticate, examine
from turnrelay.core.binding import binding
from turnrelay.core.channel_bind import channel_bind
from turnrelay.core.create_permission import create_permission
from turnrelay.core.ending import end_allocation, end_family
from turnrelay.core.events import (
    AllocationRefused,
    AuthenticationFailed,
    AuthenticationFailure,
    EndReason,
    PeerDenied,
    Throttle,
    Throttled,
)
from turnrelay.core.limits import Limits
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.outputs import FetchKey, LookUpKey, Output, Reply
from turnrelay.core.protocols import (
    Credential,
    KeyQuery,
    Lease,
    OneProcess,
    PeerAccess,
    Processes,
    Quotas,
    RateLimit,
)
from turnrelay.core.refresh import refresh
from turnrelay.core.refused import PeerRefused, Refused, refusal_reason
from turnrelay.core.send import send
from turnrelay.core.state import (
    AskedReservation,
    Discard,
    PeerConnection,
    PendingRequest,
    Request,
    Reservation,
    State,
)
from turnrelay.core.understood import not_understood

Procedure = Callable[[State, Request, Allocation, float], list[Output]]

# All of the authenticated requests are here, but two that come by a path without an allocation.
_PROCEDURES: dict[int, Procedure] = {
    Method.REFRESH: refresh,
    Method.CREATE_PERMISSION: create_permission,
    Method.CHANNEL_BIND: channel_bind,
    Method.CONNECT: connect.connect,
}
_OF_TCP_RELAYS = frozenset({Method.CONNECT, Method.CONNECTION_BIND})

# By names of their own: to ask an Enum for a member costs twice as much, and every request asks for these.
_REQUEST = MessageClass.REQUEST
_BINDING, _ALLOCATE, _CONNECTION_BIND = Method.BINDING, Method.ALLOCATE, Method.CONNECTION_BIND


class Server:
    """One TURN server (RFC 8656, RFC 8489).

    Every method takes `now`, seconds of one clock that never goes back and that all nodes sharing nonce
    keys agree on. Every method returns what is to be done, in order. No input raises.
    """

    def __init__(
        self,
        *,
        realm: str,
        nonces: NonceAuthority,
        peers: PeerAccess,
        quotas: Quotas,
        rate_limit: RateLimit,
        limits: Limits | None = None,
        families: frozenset[AddressFamily] = frozenset({AddressFamily.IPV4}),
        discovery: behaviour_discovery.ServerAddresses | None = None,
        tcp_relays: bool = False,
        processes: Processes | None = None,
        alternates: Alternates | None = None,
    ) -> None:
        self._discovery = discovery
        methods = frozenset({*_PROCEDURES, Method.ALLOCATE, Method.CONNECTION_BIND})
        self._methods = methods if tcp_relays else methods - _OF_TCP_RELAYS
        self.state = State(
            realm=realm,
            nonces=nonces,
            peers=peers,
            quotas=quotas,
            rate_limit=rate_limit,
            limits=limits or Limits(),
            families=families,
            tcp_relays=tcp_relays,
            processes=processes or OneProcess(),
            alternates=alternates or Alternates(),
        )

    # -- what happens to the server ---------------------------------------------------------------------

    def receive(self, data: bytes, path: FiveTuple, now: float) -> list[Output]:
        """One STUN message from a client. Garbage, responses and unknown indications get no answer."""
        deadline = self.state.deadlines.next()
        if deadline is not None and deadline <= now:
            # The timer is late: what has expired must not live until it comes.
            return self.handle_timeout(now) + self.receive(data, path, now)
        try:
            message = Message.decode(data)
        except DecodeError as error:
            return self._malformed(error, path, now)
        if message.message_class is _REQUEST:
            return self._receive_request(message, path, now)
        if message.message_class is MessageClass.INDICATION and message.method == Method.SEND:
            return send(self.state, message, path, now)
        return []

    def key_found(self, ticket: int, candidates: Sequence[Credential], now: float) -> list[Output]:
        """The answer to LookUpKey and FetchKey: the credentials the user may have; none for a user that is
        unknown."""
        return self._authenticate(self._no_longer_pending(ticket), candidates, now)

    def key_unavailable(self, ticket: int, now: float) -> list[Output]:
        """Another answer to both: nobody can tell now. The client gets 500 and may try again."""
        pending = self._no_longer_pending(ticket)
        if self._is_past_answering(pending):
            return []
        if pending.paid_from is None and not self.state.rate_limit.allow(pending.path.client.host, now):
            return []
        return replies.unauthenticated_error(pending.message, pending.path, ErrorCode.SERVER_ERROR)

    def key_given_up(self, ticket: int) -> None:
        """The answer to FetchKey where too many wait: the request is dropped, and retransmitted."""
        self._no_longer_pending(ticket)

    def key_not_at_hand(self, ticket: int, now: float) -> list[Output]:
        """The third answer to LookUpKey: the directory takes time to tell, and does so for those alone who
        have something left to pay with. A request for the user of the allocation on its path is paid from
        the allocation's rate, as it is when it is carried out. A stranger's is paid from the answers of its
        source prefix before it is known to deserve any, so no prefix has more of them wait than it may get
        answers at once.
        """
        state, pending = self.state, self.state.pending_requests[ticket]
        allocation = state.allocations.get(pending.path)
        if allocation is not None and asks_for(pending.query, allocation.credential, state.realm):
            pending.paid_from, stranger = Throttle.REQUESTS, None
            is_paid = allocation.requests.take(1, now)
        else:
            pending.paid_from, stranger = Throttle.UNAUTHENTICATED, pending.path.client.host
            is_paid = state.rate_limit.allow(stranger, now)
        if not is_paid:
            self._no_longer_pending(ticket)
            return [Throttled(pending.path, pending.paid_from)]
        return [FetchKey(ticket, pending.query, stranger)]

    def relay_opened(
        self, ticket: int, relay: RelayedAddress, reserved: RelayedAddress | None, now: float
    ) -> list[Output]:
        """The answer to OpenRelay; `reserved` where `reserve_next` was asked for."""
        return allocate.relay_opened(self.state, ticket, relay, reserved, now)

    def relay_failed(self, ticket: int, now: float) -> list[Output]:
        """The answer to OpenRelay when no socket could be had: the client gets 508."""
        return allocate.relay_failed(self.state, ticket, now)

    def reservation_came(self, ticket: int, relay: RelayedAddress, lease: Lease, now: float) -> list[Output]:
        """The answer to AskForReservation: the relayed address is open here, and `lease` pays for it."""
        return allocate.reservation_came(self.state, ticket, relay, lease, now)

    def reservation_missing(self, ticket: int, now: float) -> list[Output]:
        """The other answer to AskForReservation: the client gets 508."""
        return allocate.reservation_missing(self.state, ticket, now)

    def reservation_wanted(self, member: int, ticket: int, token: bytes, account: str) -> list[Output]:
        """Another process has a client that redeems what was reserved here."""
        return reservation.wanted(self.state, member, ticket, token, account)

    def reservation_taken(self, token: bytes) -> list[Output]:
        """The answer to GiveReservation: the other process pays for it now."""
        return reservation.taken(self.state, token)

    def peer_connected(self, connection_id: int, now: float) -> list[Output]:
        """The answer to ConnectToPeer: the peer took the connection."""
        return connect.peer_connected(self.state, connection_id, now)

    def peer_gone(self, connection_id: int) -> list[Output]:
        """A peer took no connection, or its connection ended."""
        return connect.peer_gone(self.state, connection_id)

    def peer_arrived(
        self, relay: RelayedAddress, peer: PeerAddress, arrival: int, now: float
    ) -> list[Output]:
        """A peer connected to a relayed address; unless AcceptPeer names `arrival`, it is to be closed."""
        return connect.peer_arrived(self.state, relay, peer, arrival, now)

    def disconnected(self, path: FiveTuple, now: float) -> list[Output]:
        """A client's TCP or TLS connection is gone, and with it its allocation, or what it carried."""
        pending = self.state.allocating.get(path)
        if pending is not None:
            pending.cancelled = True
        for request in self.state.pending_requests.values():
            if request.path == path:
                request.cancelled = True
        allocation = self.state.allocations.get(path)
        if allocation is None:
            return connect.data_connection_gone(self.state, path)
        return end_allocation(self.state, allocation, EndReason.DISCONNECTED, now)

    def end(self, allocation_id: str, now: float) -> list[Output]:
        """The operator ends an allocation; nothing for an id that is not, or no longer, one."""
        for allocation in self.state.allocations.values():
            if allocation.allocation_id == allocation_id:
                return end_allocation(self.state, allocation, EndReason.OPERATOR, now)
        return []

    def drain(self) -> None:
        """Makes no further allocation, but those that a RESERVATION-TOKEN was given for; the rest goes on."""
        self.state.draining = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held that a client would miss."""
        state = self.state
        return not (state.allocations or state.reservations or state.allocating)

    def shut_down(self, now: float) -> list[Output]:
        """Ends every allocation and reservation; what still waits for an answer will come to nothing."""
        outputs: list[Output] = []
        for request in self.state.pending_requests.values():
            request.cancelled = True
        for pending in self.state.allocating.values():
            pending.cancelled = True
        for allocation in list(self.state.allocations.values()):
            outputs += end_allocation(self.state, allocation, EndReason.SHUTDOWN, now)
        for held in list(self.state.reservations.values()):
            outputs += reservation.end(self.state, held)
        return outputs

    def next_deadline(self) -> float | None:
        """When `handle_timeout` must be called, unless something else happens first."""
        return self.state.deadlines.next()

    def handle_timeout(self, now: float) -> list[Output]:
        """Ends whatever has expired by `now`."""
        outputs: list[Output] = []
        while (item := self.state.deadlines.due(now)) is not None:
            if isinstance(item, Reservation):
                outputs += reservation.end(self.state, item)
            elif isinstance(item, AskedReservation):
                outputs += allocate.reservation_missing(self.state, item.ticket, now)
            elif isinstance(item, Allocation):
                outputs += self._sweep(item, now)
            elif isinstance(item, PeerConnection):
                outputs += connect.look_at(self.state, item, now)
        self.state.replies.forget_old(now)
        return outputs

    # -- the steps of a request -------------------------------------------------------------------------

    def _receive_request(self, message: Message, path: FiveTuple, now: float) -> list[Output]:
        state, method = self.state, message.method
        if method == _BINDING:
            return self._binding(message, path, now)
        if method not in self._methods:
            return []  # RFC 8489 section 6.3: an unknown method is silently discarded
        if method in replies.REMEMBERED:
            remembered = state.replies.recall(path, message, now)
            if remembered is not None:
                return [Reply(path, remembered)]
        if self._is_in_progress(message, path):
            return []  # a retransmission of what is being worked on
        try:
            query, algorithm = examine(state, message, path, now)
        except Unauthenticated as failure:
            return self._challenge(message, path, failure, now)
        pending = PendingRequest(message, path, query, algorithm)
        allocation = state.allocations.get(path)
        if allocation is not None and self._is_known(allocation, message, query):
            return self._authenticate(pending, (allocation.credential,), now)
        ticket = state.ticket()
        state.pending_requests[ticket] = pending
        state.waiting.add((path, message.transaction_id))
        return [LookUpKey(ticket, query)]

    def _authenticate(
        self, pending: PendingRequest, candidates: Sequence[Credential], now: float
    ) -> list[Output]:
        if self._is_past_answering(pending):
            return []
        try:
            request = authenticate(pending, candidates)
        except Unauthenticated as failure:
            is_paid = pending.paid_from is not None
            return self._challenge(pending.message, pending.path, failure, now, is_paid=is_paid)
        if pending.paid_from is Throttle.UNAUTHENTICATED:
            self.state.rate_limit.give_back(request.path.client.host)
        # Only now: a stranger who forges the source must not use up the client's requests.
        allocation = self.state.allocations.get(request.path)
        if (
            allocation is not None
            and pending.paid_from is not Throttle.REQUESTS
            and not allocation.requests.take(1, now)
        ):
            return [Throttled(request.path, Throttle.REQUESTS)]
        try:
            return self._carry_out(request, allocation, now)
        except Refused as refused:
            return self._refuse(request, refused, now)

    def _carry_out(self, request: Request, allocation: Allocation | None, now: float) -> list[Output]:
        unknown = not_understood(request.message)
        if unknown:
            raise Refused(ErrorCode.UNKNOWN_ATTRIBUTE, attributes=[(UNKNOWN_ATTRIBUTES, unknown)])
        method = request.message.method
        if method == _ALLOCATE:
            return allocate.allocate(self.state, request, now)
        if method == _CONNECTION_BIND:
            return connect.connection_bind(self.state, request)
        # RFC 8656 section 5: the allocation must exist, and only its own user may change it.
        if allocation is None:
            raise Refused(ErrorCode.ALLOCATION_MISMATCH)
        if request.credential.username != allocation.credential.username:
            raise Refused(ErrorCode.WRONG_CREDENTIALS)
        return _PROCEDURES[method](self.state, request, allocation, now)

    # -- answers to what is not to be carried out -------------------------------------------------------

    def _binding(self, message: Message, path: FiveTuple, now: float) -> list[Output]:
        if not self.state.rate_limit.allow(path.client.host, now):
            return [Throttled(path, Throttle.UNAUTHENTICATED)]
        discovery = self._discovery if self._discovery and self._discovery.includes(path.server) else None
        unknown = not_understood(message)
        if discovery is not None:
            unknown = tuple(kind for kind in unknown if kind not in behaviour_discovery.UNDERSTOOD)
        if unknown:
            return replies.unauthenticated_error(message, path, ErrorCode.UNKNOWN_ATTRIBUTE, unknown)
        if discovery is not None and PADDING in message and RESPONSE_PORT in message:
            # RFC 5780 section 7.5: no large packet is aimed at a port that did not ask.
            return replies.unauthenticated_error(message, path, ErrorCode.BAD_REQUEST)
        if discovery is not None:
            return behaviour_discovery.discovery_binding(discovery, message, path)
        return binding(message, path)

    def _malformed(self, error: DecodeError, path: FiveTuple, now: float) -> list[Output]:
        """400 to a request whose frame is sound and whose content is not; silence to everything else."""
        header = error.header
        if header is None or header.message_class is not MessageClass.REQUEST:
            self.state.discards[Discard.MALFORMED] += 1
            return []
        if header.method not in self._methods and header.method != Method.BINDING:
            return []
        if not self.state.rate_limit.allow(path.client.host, now):
            return [Throttled(path, Throttle.UNAUTHENTICATED)]
        return replies.unauthenticated_error(header, path, ErrorCode.BAD_REQUEST)

    def _challenge(
        self,
        message: Message,
        path: FiveTuple,
        failure: Unauthenticated,
        now: float,
        *,
        is_paid: bool = False,
    ) -> list[Output]:
        failed = AuthenticationFailed(path, failure.reason, self._allocation_id(path))
        if not is_paid and not self.state.rate_limit.allow(path.client.host, now):
            return [failed, Throttled(path, Throttle.UNAUTHENTICATED)]
        if failure.code is ErrorCode.BAD_REQUEST:
            return [failed, *replies.unauthenticated_error(message, path, failure.code)]
        return [failed, *replies.challenge(self.state, message, path, failure.code, now)]

    def _refuse(self, request: Request, refused: Refused, now: float) -> list[Output]:
        outputs = replies.refuse(request, refused)
        path, account = request.path, request.credential.account
        allocation_id = self._allocation_id(path)
        if isinstance(refused, PeerRefused) and allocation_id is not None:
            outputs.append(PeerDenied(path, account, refused.rule, allocation_id))
        if refused.code is ErrorCode.WRONG_CREDENTIALS:
            failure = AuthenticationFailure.WRONG_USER
            outputs.append(AuthenticationFailed(path, failure, allocation_id))
        if request.message.method == Method.ALLOCATE:
            outputs.append(AllocationRefused(path, account, refused.code, refusal_reason(refused)))
            replies.remember(self.state, request, outputs, now)
        return outputs

    def _allocation_id(self, path: FiveTuple) -> str | None:
        allocation = self.state.allocations.get(path)
        return None if allocation is None else allocation.allocation_id

    def _is_known(self, allocation: Allocation, message: Message, query: KeyQuery) -> bool:
        """Whether the keys of the allocation's user will do; a removed user must not prolong anything."""
        credential = allocation.credential
        if credential.removable and message.method == Method.REFRESH:
            return False
        return asks_for(query, credential, self.state.realm)

    def _no_longer_pending(self, ticket: int) -> PendingRequest:
        pending = self.state.pending_requests.pop(ticket)
        self.state.waiting.discard((pending.path, pending.message.transaction_id))
        return pending

    def _is_past_answering(self, pending: PendingRequest) -> bool:
        """Whether its connection closed, or carries data by now: a ConnectionBind came before it."""
        return pending.cancelled or pending.path in self.state.data_paths

    def _is_in_progress(self, message: Message, path: FiveTuple) -> bool:
        state = self.state
        if state.waiting and (path, message.transaction_id) in state.waiting:
            return True
        pending = state.allocating.get(path) if state.allocating else None
        return pending is not None and pending.request.message.transaction_id == message.transaction_id

    # -- the passing of time ----------------------------------------------------------------------------

    def _sweep(self, allocation: Allocation, now: float) -> list[Output]:
        expired = [family for family, relay in allocation.relays.items() if relay.expires_at <= now]
        if len(expired) == len(allocation.relays):
            return end_allocation(self.state, allocation, EndReason.EXPIRED, now)
        outputs: list[Output] = []
        for family in expired:
            outputs += end_family(self.state, allocation, family)
        outputs += allocation.sweep(now)
        self.state.deadlines.schedule(allocation, allocation.next_expiry())
        return outputs
