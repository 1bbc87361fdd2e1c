"""Allocate (RFC 8656 section 7.2): a client asks for relayed addresses.

In two phases: `allocate` decides and asks the driver for sockets; `relay_opened` or `relay_failed` answers
the client. Nothing is promised before it exists.
"""

from typing import NamedTuple

from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    DONT_FRAGMENT,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressErrorValue,
    AddressFamily,
    ErrorCode,
    Message,
)

from turnrelay.core import reservation as reservations
from turnrelay.core.addresses import RelayedAddress, Transport, family_of
from turnrelay.core.allocation import Allocation, Relay
from turnrelay.core.events import AllocationCreated, AllocationRefused
from turnrelay.core.limits import ASK_TIMEOUT, Limits
from turnrelay.core.outputs import AskForReservation, CloseRelay, OpenRelay, Output
from turnrelay.core.protocols import Lease, Limit
from turnrelay.core.refused import Draining, Refused, ReservationRefused, refusal_reason
from turnrelay.core.replies import refuse, remember, succeed
from turnrelay.core.state import AskedReservation, PendingAllocation, Request, Reservation, State

UDP, TCP = 17, 6
"""The protocol numbers of REQUESTED-TRANSPORT (RFC 8656 section 18.7, RFC 6062 section 5.1)."""

_IPV4, _IPV6 = AddressFamily.IPV4, AddressFamily.IPV6


class Wish(NamedTuple):
    """What the attributes of an Allocate ask for."""

    families: list[AddressFamily]
    even_port: bool = False
    reserve_next: bool = False
    reservation: Reservation | None = None
    token_of_other: bytes | None = None
    """A RESERVATION-TOKEN that another process of the relay gave out."""
    unavailable: tuple[AddressFamily, ...] = ()
    """Families asked for in addition that this server has no address of."""
    tcp: bool = False


def lifetime_for(requested: int | None, limits: Limits) -> int:
    """Seconds granted: what was asked for, but at least the default and at most the maximum (section 7.2)."""
    return max(min(requested or 0, limits.max_lifetime), limits.default_lifetime)


def allocate(state: State, request: Request, now: float) -> list[Output]:
    """Checks in the order of section 7.2, then asks for the relayed addresses."""
    if request.path in state.allocations or request.path in state.allocating:
        raise Refused(ErrorCode.ALLOCATION_MISMATCH)
    wish = _read_wish(state, request)
    account = request.credential.account
    if not state.peers.admits_client(request.path.client.host):
        raise Refused(ErrorCode.FORBIDDEN, "Tunnelled client addresses are refused")
    lifetime = lifetime_for(request.message.get(LIFETIME), state.limits)
    if wish.reservation is not None:
        reservation = wish.reservation
        del state.reservations[reservation.token]
        state.deadlines.cancel(reservation)
        pending = PendingAllocation(request, reservation.lease, lifetime, wish.families, 0)
        pending.opened[wish.families[0]] = reservation.relay
        return _complete(state, pending, now)
    if wish.token_of_other is not None:
        return _ask(state, PendingAllocation(request, None, lifetime, [], 1), wish.token_of_other, now)
    if state.draining:  # after the reservations, which were promised
        raise Draining(state.alternates.next_for(request.path, request.integrity))
    lease = _lease(state, request)
    pending = PendingAllocation(request, lease, lifetime, wish.families, len(wish.families), tcp=wish.tcp)
    pending.failed.extend(wish.unavailable)
    if wish.reserve_next:
        try:
            pending.reserved_lease = _lease(state, request)
        except Refused:
            lease.release()
            raise
    state.allocating[request.path] = pending
    outputs: list[Output] = []
    for family in wish.families:
        ticket = state.ticket()
        state.pending_allocations[ticket] = (pending, family)
        outputs.append(OpenRelay(ticket, account, family, wish.even_port, wish.reserve_next, wish.tcp))
    return outputs


def relay_opened(
    state: State, ticket: int, relay: RelayedAddress, reserved: RelayedAddress | None, now: float
) -> list[Output]:
    """The driver opened a relayed address, and a second one for a reservation where that was asked for."""
    pending, family = state.pending_allocations.pop(ticket)
    pending.opened[family] = relay
    if reserved is not None:
        pending.reserved = reserved
    return _advance(state, pending, now)


def relay_failed(state: State, ticket: int, now: float) -> list[Output]:
    """The driver could not open a relayed address."""
    pending, family = state.pending_allocations.pop(ticket)
    pending.failed.append(family)
    return _advance(state, pending, now)


def reservation_came(
    state: State, ticket: int, relay: RelayedAddress, lease: Lease, now: float
) -> list[Output]:
    """Another process gave the relayed address that the token stands for."""
    asked = state.asked_reservations.pop(ticket, None)
    if asked is None:  # given up
        lease.release()
        return [CloseRelay(relay)]
    state.deadlines.cancel(asked)
    asked.pending.lease = lease
    asked.pending.opened[family_of(relay.host)] = relay
    return _advance(state, asked.pending, now)


def reservation_missing(state: State, ticket: int, now: float) -> list[Output]:
    """The other process has no such reservation, or does not answer."""
    asked = state.asked_reservations.pop(ticket, None)
    if asked is None:
        return []
    state.deadlines.cancel(asked)
    state.allocating.pop(asked.pending.request.path, None)
    return [] if asked.pending.cancelled else _fail(state, asked.pending, ReservationRefused(), now)


def _ask(state: State, pending: PendingAllocation, token: bytes, now: float) -> list[Output]:
    ticket, request = state.ticket(), pending.request
    asked = state.asked_reservations[ticket] = AskedReservation(ticket, pending)
    state.allocating[request.path] = pending
    state.deadlines.schedule(asked, now + ASK_TIMEOUT)
    return [AskForReservation(token[0], ticket, token, request.credential.account)]


def _lease(state: State, request: Request) -> Lease:
    lease = state.quotas.lease_allocation(request.credential.account, request.path.client.host)
    if lease is Limit.ALLOCATIONS_TOTAL:
        raise Refused(ErrorCode.INSUFFICIENT_CAPACITY, limit=lease)
    if isinstance(lease, Limit):
        raise Refused(ErrorCode.ALLOCATION_QUOTA_REACHED, limit=lease)
    return lease


def _read_wish(state: State, request: Request) -> Wish:
    message = request.message
    transport = message.get(REQUESTED_TRANSPORT)
    if transport is None:
        raise Refused(ErrorCode.BAD_REQUEST, "REQUESTED-TRANSPORT is missing")
    tcp = transport == TCP
    if transport != UDP and not (tcp and state.tcp_relays):
        raise Refused(ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL)
    if tcp:
        _require_fit_for_tcp(request)
    token = message.get(RESERVATION_TOKEN)
    even = message.get(EVEN_PORT)
    requested = message.get(REQUESTED_ADDRESS_FAMILY)
    additional = message.get(ADDITIONAL_ADDRESS_FAMILY)
    if token is not None:
        if even is not None or requested is not None or additional is not None:
            raise Refused(ErrorCode.BAD_REQUEST, "RESERVATION-TOKEN stands alone")
        return _read_reservation(state, token, request.credential.account)
    if requested is not None and additional is not None:
        raise Refused(ErrorCode.BAD_REQUEST, "One address family attribute at most")
    if additional is not None:
        if additional != _IPV6:
            raise Refused(ErrorCode.BAD_REQUEST, "ADDITIONAL-ADDRESS-FAMILY must be IPv6")
        if even:
            raise Refused(ErrorCode.BAD_REQUEST, "A dual allocation reserves no port")
        available = [family for family in (_IPV4, _IPV6) if family in state.families]
        missing = tuple(family for family in (_IPV4, _IPV6) if family not in state.families)
        return Wish(available, even is not None, unavailable=missing, tcp=tcp)
    family = _IPV4 if requested is None else requested
    if family not in state.families:
        raise Refused(ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED)
    return Wish([AddressFamily(family)], even is not None, bool(even), tcp=tcp)


def _require_fit_for_tcp(request: Request) -> None:
    """RFC 6062 section 5.1: who wants TCP relayed comes over TCP, and asks for nothing that is UDP's."""
    if request.path.transport not in (Transport.TCP, Transport.TLS):
        raise Refused(ErrorCode.BAD_REQUEST, "TCP is relayed for clients over TCP or TLS")
    if any(unfit in request.message for unfit in (DONT_FRAGMENT, EVEN_PORT, RESERVATION_TOKEN)):
        raise Refused(ErrorCode.BAD_REQUEST, "An attribute has no meaning for TCP")


def _read_reservation(state: State, token: bytes, account: str) -> Wish:
    if state.processes.has_other(token[0]):
        return Wish([], token_of_other=token)
    reservation = reservations.find(state, token, account)
    if reservation is None:
        raise ReservationRefused
    return Wish([family_of(reservation.relay.host)], reservation=reservation)


def _advance(state: State, pending: PendingAllocation, now: float) -> list[Output]:
    pending.waiting -= 1
    if pending.waiting:
        return []
    state.allocating.pop(pending.request.path, None)
    if pending.cancelled:
        _release(pending)
        return _close(pending)
    if not pending.opened:
        _release(pending)
        return _fail(state, pending, Refused(ErrorCode.INSUFFICIENT_CAPACITY), now)
    return _complete(state, pending, now)


def _fail(state: State, pending: PendingAllocation, refused: Refused, now: float) -> list[Output]:
    path, account = pending.request.path, pending.request.credential.account
    outputs = refuse(pending.request, refused)
    outputs.append(AllocationRefused(path, account, refused.code, refusal_reason(refused)))
    remember(state, pending.request, outputs, now)
    return outputs


def _complete(state: State, pending: PendingAllocation, now: float) -> list[Output]:
    request, lifetime = pending.request, pending.lifetime
    assert pending.lease is not None, "what is opened is paid for"
    relays = {family: Relay(relay, now + lifetime) for family, relay in sorted(pending.opened.items())}
    allocation = Allocation(
        state.new_id(),
        request.path,
        request.credential,
        relays,
        pending.lease,
        state.limits,
        now,
        pending.tcp,
    )
    state.allocations[request.path] = allocation
    for relay in relays.values():
        state.by_relay[relay.address] = allocation
    state.deadlines.schedule(allocation, now + lifetime)

    response = Message.success_to(request.message)
    for relay in relays.values():
        response.add(XOR_RELAYED_ADDRESS, relay.address)
    for family in pending.failed:
        # Half of a dual allocation is better than none, and is told so (section 7.2).
        code = (
            ErrorCode.INSUFFICIENT_CAPACITY
            if family in state.families
            else ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED
        )
        response.add(ADDRESS_ERROR_CODE, AddressErrorValue(family, code, code.reason))
    response.add(LIFETIME, lifetime)
    response.add(XOR_MAPPED_ADDRESS, request.path.client)
    if pending.reserved is not None and pending.reserved_lease is not None:
        token = reservations.reserve(state, pending.reserved, pending.reserved_lease, request, now)
        response.add(RESERVATION_TOKEN, token)
    outputs = succeed(request, response)
    remember(state, request, outputs, now)
    addresses = tuple(relay.address for relay in relays.values())
    account = request.credential.account
    outputs.append(AllocationCreated(allocation.allocation_id, request.path, account, addresses, lifetime))
    return outputs


def _release(pending: PendingAllocation) -> None:
    for lease in (pending.lease, pending.reserved_lease):
        if lease is not None:
            lease.release()


def _close(pending: PendingAllocation) -> list[Output]:
    opened = list(pending.opened.values())
    if pending.reserved is not None:
        opened.append(pending.reserved)
    return [CloseRelay(relay) for relay in opened]
