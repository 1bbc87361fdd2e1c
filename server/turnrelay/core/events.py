"""What happened, for whoever watches (metrics, log, audit). Nothing in the core depends on who does."""

from enum import Enum
from typing import NamedTuple

from turnrelay.core.addresses import FiveTuple, RelayedAddress, Transport
from turnrelay.core.protocols import DenyRule


class AuthenticationFailure(Enum):
    """Why a request was not accepted as anybody's (RFC 8489 section 9.2.4)."""

    NO_CREDENTIALS = "no_credentials"
    """The first request of a client, as a rule; it is answered with a challenge."""
    INCOMPLETE = "incomplete"
    STALE_NONCE = "stale_nonce"
    BID_DOWN = "bid_down"
    UNKNOWN_USER = "unknown_user"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a reason, not a password
    WRONG_USER = "wrong_user"

    # The name's hash, Enum's own, is computed in Python, and every client is challenged first.
    __hash__ = object.__hash__


class EndReason(Enum):
    """Why an allocation is gone."""

    EXPIRED = "expired"
    DELETED = "deleted"
    DISCONNECTED = "disconnected"
    SHUTDOWN = "shutdown"
    OPERATOR = "operator"
    """The operator ended it."""
    WORKER_LOST = "worker_lost"
    """The process that it lived in ended without ending it."""


class RefusalReason(Enum):
    """Why an authenticated Allocate was refused (RFC 8656 section 7.2)."""

    ALLOCATIONS_PER_USER = "allocations_per_user"
    ALLOCATIONS_PER_PREFIX = "allocations_per_prefix"
    ALLOCATIONS_TOTAL = "allocations_total"
    DRAINING = "draining"
    """The server is about to stop."""
    RELAY_PORTS = "relay_ports"
    """No port is free, or the system gives no socket."""
    ALLOCATION_EXISTS = "allocation_exists"
    CLIENT_ADDRESS = "client_address"
    """The client comes from an address that no client can have (RFC 8656 section 21.4)."""
    RESERVATION_TOKEN = "reservation_token"  # noqa: S105 - a reason, not a secret
    ADDRESS_FAMILY = "address_family"
    """The relay has no address of the family that was asked for."""
    RELAYED_TRANSPORT = "relayed_transport"
    """Something other than UDP was asked for."""
    UNKNOWN_ATTRIBUTE = "unknown_attribute"
    BAD_REQUEST = "bad_request"


class Throttle(Enum):
    """Which rate was exceeded."""

    UNAUTHENTICATED = "unauthenticated"
    REQUESTS = "requests"


class RequestAnswered(NamedTuple):
    """A response left: `code` is 0 for success, else the error code."""

    method: int
    code: int
    transport: Transport


class AuthenticationFailed(NamedTuple):
    path: FiveTuple
    reason: AuthenticationFailure
    allocation_id: str | None = None
    """The allocation that lives on the path, whoever sent the request."""


class AllocationCreated(NamedTuple):
    allocation_id: str
    path: FiveTuple
    account: str
    relays: tuple[RelayedAddress, ...]
    lifetime: int


class AllocationEnded(NamedTuple):
    allocation_id: str
    path: FiveTuple
    account: str
    reason: EndReason
    age: float
    """Seconds since it was created."""


class AllocationRefused(NamedTuple):
    """An authenticated Allocate was answered with the error `code`."""

    path: FiveTuple
    account: str
    code: int
    reason: RefusalReason


class PeerDenied(NamedTuple):
    path: FiveTuple
    account: str
    rule: DenyRule
    allocation_id: str


class Throttled(NamedTuple):
    path: FiveTuple
    throttle: Throttle


Event = (
    RequestAnswered
    | AuthenticationFailed
    | AllocationCreated
    | AllocationEnded
    | AllocationRefused
    | PeerDenied
    | Throttled
)
