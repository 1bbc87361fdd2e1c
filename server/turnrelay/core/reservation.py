"""RESERVATION-TOKEN (RFC 8656 sections 7.2 and 18.9): a relayed address held for a later Allocate.

Where several processes make up the relay, that Allocate may come to another one, which asks for it.
"""

from turnrelay.core.addresses import RelayedAddress
from turnrelay.core.limits import RESERVATION_LIFETIME
from turnrelay.core.outputs import CloseRelay, GiveReservation, Output, RefuseReservation
from turnrelay.core.protocols import Lease
from turnrelay.core.state import Request, Reservation, State


def reserve(state: State, relay: RelayedAddress, lease: Lease, request: Request, now: float) -> bytes:
    """Holds a relayed address for the account of the request. Returns the token."""
    token = state.new_token()
    account, client_host = request.credential.account, request.path.client.host
    reservation = Reservation(token, relay, account, client_host, lease)
    state.reservations[token] = reservation
    state.deadlines.schedule(reservation, now + RESERVATION_LIFETIME)
    return token


def find(state: State, token: bytes, account: str) -> Reservation | None:
    """A token is worth a port, so only the account that paid for it may spend it, and once."""
    reservation = state.reservations.get(token)
    if reservation is None or reservation.account != account or reservation.given:
        return None
    return reservation


def end(state: State, reservation: Reservation) -> list[Output]:
    """Nobody has redeemed it in time, or the server shuts down."""
    del state.reservations[reservation.token]
    state.deadlines.cancel(reservation)
    reservation.lease.release()
    return [CloseRelay(reservation.relay)]


def wanted(state: State, member: int, ticket: int, token: bytes, account: str) -> list[Output]:
    """Another process has a client that redeems it.

    It stays paid for here until that process says that it pays; should that one end before, until the
    reservation would have ended. So what the relay holds is never counted as less than it is.
    """
    reservation = find(state, token, account)
    if reservation is None:
        return [RefuseReservation(member, ticket)]
    reservation.given = True
    return [GiveReservation(member, ticket, token, reservation.relay, account, reservation.client_host)]


def taken(state: State, token: bytes) -> list[Output]:
    """The other process pays from now on."""
    reservation = state.reservations.get(token)
    return end(state, reservation) if reservation is not None and reservation.given else []
