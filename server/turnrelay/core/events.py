"""What happened, for whoever watches (metrics, log, audit). Nothing in the core depends on who does."""

from dataclasses import dataclass
from enum import Enum

from turnrelay.core.addresses import FiveTuple, RelayedAddress, Transport
from turnrelay.core.protocols import DenyRule, Limit


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


class EndReason(Enum):
    """Why an allocation is gone."""

    EXPIRED = "expired"
    DELETED = "deleted"
    DISCONNECTED = "disconnected"
    SHUTDOWN = "shutdown"


class Throttle(Enum):
    """Which rate was exceeded."""

    UNAUTHENTICATED = "unauthenticated"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A response left: `code` is 0 for success, else the error code."""

    method: int
    code: int
    transport: Transport


@dataclass(frozen=True, slots=True)
class AuthenticationFailed:
    path: FiveTuple
    reason: AuthenticationFailure


@dataclass(frozen=True, slots=True)
class AllocationCreated:
    allocation_id: str
    path: FiveTuple
    account: str
    relays: tuple[RelayedAddress, ...]
    lifetime: int


@dataclass(frozen=True, slots=True)
class AllocationEnded:
    allocation_id: str
    path: FiveTuple
    account: str
    reason: EndReason
    age: float
    """Seconds since it was created."""


@dataclass(frozen=True, slots=True)
class AllocationRefused:
    """An authenticated Allocate was refused; `limit` tells which quota, None any other reason."""

    path: FiveTuple
    account: str
    code: int
    limit: Limit | None


@dataclass(frozen=True, slots=True)
class PeerDenied:
    path: FiveTuple
    account: str
    rule: DenyRule


@dataclass(frozen=True, slots=True)
class Throttled:
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
