"""TurnClient: the sans-IO TURN client (RFC 8656). Frames and time in, outputs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    ALTERNATE_DOMAIN,
    ALTERNATE_SERVER,
    CHANNEL_NUMBER,
    DATA,
    ICMP,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    Attribute,
    DecodeError,
    ErrorCode,
    Message,
    MessageClass,
    Method,
    TransportAddress,
    decode_channel_data,
    encode_channel_data,
    is_channel_data,
)

from peerpath.turn.credentials import Authentication, LongTermCredentials
from peerpath.turn.grants import (
    MARGIN,
    ChannelBinding,
    Channels,
    GrantState,
    Permission,
    Permissions,
    hosts_of,
)
from peerpath.turn.outputs import (
    Allocated,
    ChannelBound,
    ChannelRefused,
    Ended,
    EndReason,
    FamilyRefused,
    Output,
    PeerData,
    PeerUnreachable,
    PermissionInstalled,
    PermissionRefused,
    Refused,
    Transmit,
    TryAlternate,
)
from peerpath.turn.transactions import Cause, Failure, Outcome, Request, Success, Transactions

BOTH_FAMILIES = (AddressFamily.IPV4, AddressFamily.IPV6)
DEFAULT_LIFETIME = 600
KEEPALIVE_SECONDS = 25.0
"""Under the shortest mapping timeout seen of NATs in the field, 30 s; RFC 4787 asks for 120."""

_UDP = 17
# The number that ADDITIONAL-ADDRESS-FAMILY had in the drafts of RFC 8656, and still has in coturn 4.6.1. It
# is comprehension-optional, so that others do not mind.
_DRAFT_ADDITIONAL_ADDRESS_FAMILY = Attribute.opaque(0x8032, "ADDITIONAL-ADDRESS-FAMILY (draft)")
# Half of what ADDITIONAL-ADDRESS-FAMILY asks for counts as success (RFC 8656 section 7.2), but a server may
# be older than that, or no friend of attributes that it does not know.
_ONE_FAMILY_MAY_DO = frozenset(
    {
        ErrorCode.BAD_REQUEST,
        ErrorCode.UNKNOWN_ATTRIBUTE,
        ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED,
        ErrorCode.INSUFFICIENT_CAPACITY,
    }
)
_HOSTS_PER_REQUEST = 16  # keeps a request with IPv6 peers under 1,200 bytes
_RETRY_REFRESH_SECONDS = 10.0
_BINDING_INDICATION = (MessageClass.INDICATION, Method.BINDING)


class ClientState(Enum):
    """All of the state machine is here: each state leads to the next one, and any of them to ENDED."""

    NEW = auto()
    ALLOCATING = auto()
    ALLOCATED = auto()
    ENDED = auto()


class TurnClient:
    """One allocation on one server, from one 5-tuple.

    `receive` takes one complete STUN message or ChannelData (stunwire.StreamFramer cuts a stream into them).
    The driver sees to it that it came from the server. Times are seconds of any clock that never goes back.
    Call `handle_timeout` at `next_deadline()`. Peers may be named before there is an allocation.

    `families` None asks for what the server gives by default (IPv4), and for IPv6 where it has no IPv4. With
    BOTH_FAMILIES there is an address of each where the server has both, and the default where it would not
    hear of that.
    `rto` is the first retransmission interval over UDP, `keepalive` the longest silence towards the server
    that NATs on the way get to see (None: no keepalive).
    """

    _peer_transport = _UDP

    def __init__(
        self,
        credentials: LongTermCredentials,
        *,
        reliable: bool,
        families: Sequence[AddressFamily] | None = None,
        lifetime: int = DEFAULT_LIFETIME,
        rto: float = 0.5,
        keepalive: float | None = KEEPALIVE_SECONDS,
    ) -> None:
        self._authentication = Authentication(credentials)
        self._transactions = Transactions(self._authentication, reliable=reliable, rto=rto)
        self._reliable = reliable
        self._families = frozenset(families or ())
        self._lifetime = lifetime
        self._keepalive = keepalive
        self._permissions = Permissions()
        self._channels = Channels()
        self._closing = False
        self._last_sent_at = 0.0
        self._refresh_at: float | None = None
        self._expires_at: float | None = None
        self.state = ClientState.NEW
        self.relayed: tuple[TransportAddress, ...] = ()
        self.mapped: TransportAddress | None = None

    @property
    def round_trip(self) -> float | None:
        """Seconds to the server and back, of the latest request that was sent once and answered."""
        return self._transactions.round_trip

    # -- what the caller wants --------------------------------------------------------------------------

    def start(self, now: float) -> list[Output]:
        """Asks for the allocation."""
        if self.state is not ClientState.NEW:
            raise RuntimeError(f"start() is called once; this client is {self.state.name}")
        self.state = ClientState.ALLOCATING
        return self._allocate(now)

    def permit(self, peers: Iterable[str | TransportAddress], now: float) -> list[Output]:
        """Wants permission for these hosts (or the hosts of these addresses) until they are forgotten."""
        if self._is_over:
            return []
        for host, port in hosts_of(peers).items():
            self._permissions.want(canonical(host), port)
        return self._ask_for_grants(now)

    def bind(self, peer: TransportAddress, now: float) -> list[Output]:
        """Wants a channel for `peer`, and with it permission for its host, until it is forgotten."""
        if self._is_over:
            return []
        peer = TransportAddress(canonical(peer[0]), peer[1])
        if self._channels.want(peer, now) is None:
            return [ChannelRefused(peer, ErrorCode.INSUFFICIENT_CAPACITY)]
        return self._ask_for_grants(now)

    def forget(self, hosts: Iterable[str | TransportAddress], now: float) -> list[Output]:
        """Lets permissions and channels of these hosts lapse: TURN knows no other way to end them."""
        for host in hosts_of(hosts):
            self._permissions.forget(canonical(host))
            self._channels.forget(canonical(host))
        return []

    def send(self, peer: TransportAddress, data: bytes, now: float) -> list[Output]:
        """One datagram for `peer`: on its channel if there is one, else in a Send indication.

        A host that was never named is permitted on the way, and what comes before the answer may get lost.
        Nothing leaves before there is an allocation, nor for a host that the server refused. ValueError past
        what one message can hold (65,507 bytes of UDP data are safe).
        """
        if self._is_over or self.state is not ClientState.ALLOCATED:
            return []
        peer = TransportAddress(canonical(peer[0]), peer[1])
        binding = self._channels.of(peer)
        if binding is not None and binding.carries(now):
            return self._sent([Transmit(encode_channel_data(binding.channel, data, pad=self._reliable))], now)
        outputs: list[Output] = []
        if binding is None and peer.host not in self._permissions:
            outputs += self.permit([peer], now)
        permission = self._permissions.get(peer.host)
        if permission is not None and permission.state is GrantState.REFUSED:
            return outputs
        message = Message(MessageClass.INDICATION, Method.SEND)
        message.add(XOR_PEER_ADDRESS, peer).add(DATA, data)
        return outputs + self._sent([Transmit(message.encode())], now)

    def close(self, now: float) -> list[Output]:
        """Gives the allocation back. `Ended` follows when the server has confirmed it, or does not answer."""
        if self._is_over:
            return []
        if self.state is not ClientState.ALLOCATED and not self._transactions.shows_credentials:
            # Who has shown no credentials yet gets no allocation, and a dead server is not waited for.
            return self._end(EndReason.CLOSED)
        self._closing = True
        self._refresh_at = self._expires_at = None
        # While the Allocate is under way there is nothing to delete yet: its answer will be met with this.
        return self._refresh(0, now) if self.state is ClientState.ALLOCATED else []

    def disconnected(self, now: float) -> list[Output]:
        """The driver lost its connection to the server."""
        return [] if self.state is ClientState.ENDED else self._end(EndReason.DISCONNECTED)

    # -- what happens to it -----------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> list[Output]:
        """One STUN message or ChannelData from the server. Garbage is dropped."""
        if self.state is ClientState.ENDED:
            return []
        try:
            if is_channel_data(frame):
                channel, data = decode_channel_data(frame)
                peer = self._channels.peer_of(channel)
                return [] if peer is None else [PeerData(peer, data)]
            message = Message.decode(frame)
        except DecodeError:
            return []
        if message.message_class is MessageClass.INDICATION:
            return self._indicated(message)
        if message.message_class is MessageClass.REQUEST:
            return []
        transmits, outcomes = self._transactions.receive(message, now)
        return self._settle(transmits, outcomes, now)

    def next_deadline(self) -> float | None:
        """When to call `handle_timeout`, unless something else happens first."""
        if self.state in (ClientState.NEW, ClientState.ENDED):
            return None
        moments = [self._transactions.next_deadline(), self._refresh_at, self._expires_at]
        if self.state is ClientState.ALLOCATED and not self._closing:
            moments += [self._permissions.next_renewal(), self._channels.next_renewal()]
            if self._keepalive is not None:
                moments.append(self._last_sent_at + self._keepalive)
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        """Retransmits, renews what would lapse, and ends what has. Early calls do no harm."""
        if self.state in (ClientState.NEW, ClientState.ENDED):
            return []
        transmits, outcomes = self._transactions.handle_timeout(now)
        outputs = self._settle(transmits, outcomes, now)
        if self.state is not ClientState.ALLOCATED or self._closing:
            return outputs
        if self._expires_at is not None and now >= self._expires_at:
            return outputs + self._end(EndReason.EXPIRED)
        if self._refresh_at is not None and now >= self._refresh_at:
            self._refresh_at = None
            outputs += self._refresh(self._lifetime, now)
        outputs += self._renew_grants(now)
        if self._keepalive is not None and now >= self._last_sent_at + self._keepalive:
            outputs += self._sent([Transmit(Message(*_BINDING_INDICATION).encode(fingerprint=True))], now)
        return outputs

    # -- requests ---------------------------------------------------------------------------------------

    def _allocate(self, now: float) -> list[Output]:
        attributes: list[tuple[Attribute[Any], Any]] = [(REQUESTED_TRANSPORT, self._peer_transport)]
        if self._families.issuperset(BOTH_FAMILIES):
            attributes.append((ADDITIONAL_ADDRESS_FAMILY, AddressFamily.IPV6))
            attributes.append((_DRAFT_ADDITIONAL_ADDRESS_FAMILY, bytes((AddressFamily.IPV6, 0, 0, 0))))
        elif AddressFamily.IPV6 in self._families:
            attributes.append((REQUESTED_ADDRESS_FAMILY, AddressFamily.IPV6))
        # IPv4 alone is what a server gives unasked, also one that predates the attribute.
        if self._lifetime != DEFAULT_LIFETIME:
            attributes.append((LIFETIME, self._lifetime))
        return self._sent(self._transactions.begin(Request(Method.ALLOCATE, attributes, now), now), now)

    def _ask_for_grants(self, now: float) -> list[Output]:
        """Requests for whatever is wanted and not asked for yet, once there is an allocation."""
        if self.state is not ClientState.ALLOCATED or self._closing:
            return []
        outputs: list[Output] = []
        for binding in self._channels.wanted():
            if not self._has_family_of(binding.peer.host):
                binding.refused()
                outputs.append(ChannelRefused(binding.peer, ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH))
                continue
            # Its ChannelBind installs the permission as well (RFC 8656 section 12.2).
            self._permissions.want(*binding.peer).state = GrantState.ASKED
            outputs += self._bind_channel(binding, now)
        wanted = []
        for permission in self._permissions.wanted():
            if self._has_family_of(permission.host):
                wanted.append(permission)
            else:
                permission.refused()
                code = ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH
                outputs.append(PermissionRefused(permission.host, code))
        return outputs + self._create_permissions(wanted, now)

    def _renew_grants(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for binding in self._channels.due(now):
            outputs += self._bind_channel(binding, now)
        return outputs + self._create_permissions(self._permissions.due(now), now)

    def _create_permissions(self, permissions: Sequence[Permission], now: float) -> list[Output]:
        outputs: list[Output] = []
        for start in range(0, len(permissions), _HOSTS_PER_REQUEST):
            together = permissions[start : start + _HOSTS_PER_REQUEST]
            for permission in together:
                permission.state, permission.renew_at = GrantState.ASKED, float("inf")
            peers = [
                (XOR_PEER_ADDRESS, TransportAddress(permission.host, permission.port))
                for permission in together
            ]
            about = ([permission.host for permission in together], now)
            request = Request(Method.CREATE_PERMISSION, peers, about)
            outputs += self._sent(self._transactions.begin(request, now), now)
        return outputs

    def _bind_channel(self, binding: ChannelBinding, now: float) -> list[Output]:
        binding.state, binding.renew_at = GrantState.ASKED, float("inf")
        attributes: list[tuple[Attribute[Any], Any]] = [
            (CHANNEL_NUMBER, binding.channel),
            (XOR_PEER_ADDRESS, binding.peer),
        ]
        request = Request(Method.CHANNEL_BIND, attributes, (binding, now))
        return self._sent(self._transactions.begin(request, now), now)

    def _refresh(self, lifetime: int, now: float) -> list[Output]:
        request = Request(Method.REFRESH, [(LIFETIME, lifetime)], lifetime)
        return self._sent(self._transactions.begin(request, now), now)

    # -- answers ----------------------------------------------------------------------------------------

    def _settle(self, transmits: Sequence[Transmit], outcomes: Sequence[Outcome], now: float) -> list[Output]:
        outputs = self._sent(transmits, now)
        for outcome in outcomes:
            if self.state is ClientState.ENDED:
                break
            if isinstance(outcome, Success):
                outputs += self._succeeded(outcome, now)
            else:
                outputs += self._failed(outcome, now)
        return outputs

    def _succeeded(self, outcome: Success, now: float) -> list[Output]:
        return _ON_SUCCESS[outcome.request.method](self, outcome, now)

    def _failed(self, failure: Failure, now: float) -> list[Output]:
        return _ON_FAILURE[failure.request.method](self, failure, now)

    def _allocated(self, outcome: Success, now: float) -> list[Output]:
        response = outcome.response
        # coturn without IPv4 names 0.0.0.0:0 beside the address of IPv6.
        relayed = [each for each in response.get_all(XOR_RELAYED_ADDRESS) if _is_address(each)]
        mapped = response.get(XOR_MAPPED_ADDRESS)
        lifetime = response.get(LIFETIME)
        if not relayed or mapped is None or not lifetime:
            refused = Refused(
                ErrorCode.SERVER_ERROR, "the answer lacks an address or lifetime", Method.ALLOCATE
            )
            return [refused, *self._end(EndReason.REFUSED)]
        self.state = ClientState.ALLOCATED
        if self._closing:
            return self._refresh(0, now)
        self.relayed = tuple(sorted(relayed, key=lambda address: ":" in address.host))
        self.mapped = mapped
        self._note_lifetime(lifetime, now)
        outputs: list[Output] = [Allocated(self.relayed, mapped, lifetime)]
        outputs += [
            FamilyRefused(AddressFamily(error.family), error.code, error.reason)
            for error in response.get_all(ADDRESS_ERROR_CODE)
            if error.family in tuple(AddressFamily)
        ]
        return outputs + self._ask_for_grants(now)

    def _allocate_failed(self, failure: Failure, now: float) -> list[Output]:
        if self._closing:
            return self._end(EndReason.CLOSED)
        if failure.cause is not Cause.ERROR:
            return self._end(_SILENCE[failure.cause])
        alternate = None if failure.response is None else failure.response.get(ALTERNATE_SERVER)
        if failure.code == ErrorCode.TRY_ALTERNATE and failure.response is not None and alternate is not None:
            domain = failure.response.get(ALTERNATE_DOMAIN)
            return [TryAlternate(alternate, domain), *self._end(EndReason.REDIRECTED)]
        if failure.code in _ONE_FAMILY_MAY_DO and self._families.issuperset(BOTH_FAMILIES):
            self._families = frozenset()
            return self._allocate(now)
        if failure.code == ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED and not self._families:
            # Its default is IPv4, which it has none of: a server on a network of IPv6 alone.
            self._families = frozenset({AddressFamily.IPV6})
            return self._allocate(now)
        refused = Refused(failure.code, failure.reason, Method.ALLOCATE)
        if failure.code == ErrorCode.ALLOCATION_MISMATCH:
            return [refused, *self._end(EndReason.NEW_FIVE_TUPLE_NEEDED)]
        return [refused, *self._end(EndReason.REFUSED)]

    def _refreshed(self, outcome: Success, now: float) -> list[Output]:
        if outcome.request.about == 0:
            return self._end(EndReason.CLOSED)
        lifetime = outcome.response.get(LIFETIME)
        if lifetime and not self._closing:
            self._note_lifetime(lifetime, now)
        return []

    def _refresh_failed(self, failure: Failure, now: float) -> list[Output]:
        if failure.request.about == 0:
            return self._end(EndReason.CLOSED)
        if self._closing:
            return []
        if failure.cause is not Cause.ERROR:
            return self._end(_SILENCE[failure.cause])
        if failure.code == ErrorCode.ALLOCATION_MISMATCH:
            return self._end(EndReason.LOST)
        self._refresh_at = now + _RETRY_REFRESH_SECONDS
        return [Refused(failure.code, failure.reason, Method.REFRESH)]

    def _permitted(self, outcome: Success, now: float) -> list[Output]:
        hosts, asked_at = outcome.request.about
        outputs: list[Output] = []
        for host in hosts:
            permission = self._permissions.get(host)
            if permission is not None and permission.granted(asked_at):
                outputs.append(PermissionInstalled(host))
        return outputs

    def _permission_failed(self, failure: Failure, now: float) -> list[Output]:
        hosts, _ = failure.request.about
        permissions = [found for host in hosts if (found := self._permissions.get(host)) is not None]
        if failure.cause is Cause.ERROR and len(hosts) > 1:
            # All or none (RFC 8656 section 10.2): asking one by one tells which host is in the way.
            outputs: list[Output] = []
            for permission in permissions:
                outputs += self._create_permissions([permission], now)
            return outputs
        for permission in permissions:
            permission.refused()
        code = failure.code if failure.cause is Cause.ERROR else None
        return [PermissionRefused(permission.host, code) for permission in permissions]

    def _bound(self, outcome: Success, now: float) -> list[Output]:
        binding, asked_at = outcome.request.about
        outputs: list[Output] = []
        permission = self._permissions.get(binding.peer.host)
        if permission is not None and permission.granted(asked_at):
            outputs.append(PermissionInstalled(permission.host))
        if binding.granted(asked_at):
            outputs.append(ChannelBound(binding.peer, binding.channel))
        return outputs

    def _bind_failed(self, failure: Failure, now: float) -> list[Output]:
        binding, _ = failure.request.about
        binding.refused()
        code = failure.code if failure.cause is Cause.ERROR else None
        outputs: list[Output] = [ChannelRefused(binding.peer, code)]
        permission = self._permissions.get(binding.peer.host)
        if permission is not None and permission.state is GrantState.ASKED:
            # Perhaps only the channel was in the way, so the permission is asked for by itself.
            outputs += self._create_permissions([permission], now)
        return outputs

    def _indicated(self, message: Message) -> list[Output]:
        """Data indications (RFC 8656 sections 11.4 and 11.6), from hosts that were permitted only."""
        peer, data, icmp = message.get(XOR_PEER_ADDRESS), message.get(DATA), message.get(ICMP)
        if message.method != Method.DATA or peer is None or message.unknown_required:
            return []
        if peer.host not in self._permissions:
            return []
        if data is not None:
            return [PeerData(peer, data)]
        return [] if icmp is None else [PeerUnreachable(peer, icmp.type, icmp.code)]

    # -- small things -----------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._closing or self.state is ClientState.ENDED

    def _sent(self, transmits: Sequence[Transmit], now: float) -> list[Output]:
        if transmits:
            self._last_sent_at = now
        return list(transmits)

    def _note_lifetime(self, lifetime: int, now: float) -> None:
        self._expires_at = now + lifetime
        # A minute early, or half-way where the lifetime is short.
        self._refresh_at = now + max(lifetime - MARGIN, lifetime / 2)

    def _has_family_of(self, host: str) -> bool:
        return any((":" in relayed.host) == (":" in host) for relayed in self.relayed)

    def _end(self, reason: EndReason) -> list[Output]:
        self.state = ClientState.ENDED
        self._transactions.abandon()
        return [Ended(reason)]


_SILENCE = {
    Cause.NO_ANSWER: EndReason.NO_ANSWER,
    Cause.INTEGRITY_VIOLATED: EndReason.INTEGRITY_VIOLATED,
}

_ON_SUCCESS: dict[int, Callable[[TurnClient, Success, float], list[Output]]] = {
    Method.ALLOCATE: TurnClient._allocated,
    Method.REFRESH: TurnClient._refreshed,
    Method.CREATE_PERMISSION: TurnClient._permitted,
    Method.CHANNEL_BIND: TurnClient._bound,
}
_ON_FAILURE: dict[int, Callable[[TurnClient, Failure, float], list[Output]]] = {
    Method.ALLOCATE: TurnClient._allocate_failed,
    Method.REFRESH: TurnClient._refresh_failed,
    Method.CREATE_PERMISSION: TurnClient._permission_failed,
    Method.CHANNEL_BIND: TurnClient._bind_failed,
}


def _is_address(relayed: TransportAddress) -> bool:
    return relayed.port != 0 and relayed.host not in ("0.0.0.0", "::")


def canonical(host: str) -> str:
    """As stunwire spells hosts, so that each has one name; ValueError for what is no address."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, host.partition("%")[0]))
    except OSError:
        raise ValueError(f"{host!r} is not an IP address") from None
