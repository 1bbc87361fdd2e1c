"""Refused: a request that is well formed, and denied. A refused request is its error response."""

from collections.abc import Sequence
from typing import Any

from stunwire import Attribute, ErrorCode

from turnrelay.core.events import RefusalReason
from turnrelay.core.protocols import DenyRule, Limit


class Refused(Exception):
    """Ends a procedure with an error response of `code`; `reason` None is the RFC's own phrase."""

    def __init__(
        self,
        code: ErrorCode,
        reason: str | None = None,
        attributes: Sequence[tuple[Attribute[Any], Any]] = (),
        limit: Limit | None = None,
    ) -> None:
        super().__init__(f"{int(code)} {reason or code.reason}")
        self.code = code
        self.reason = reason
        self.attributes = attributes
        self.limit = limit


class PeerRefused(Refused):
    """403: policy denies the peer (RFC 8656 sections 10.2 and 12.2)."""

    def __init__(self, rule: DenyRule) -> None:
        super().__init__(ErrorCode.FORBIDDEN, "Peer address is denied")
        self.rule = rule


class ReservationRefused(Refused):
    """508: the RESERVATION-TOKEN is unknown, used, or another account's (RFC 8656 section 7.2)."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INSUFFICIENT_CAPACITY, "Reservation token is not valid")


class Draining(Refused):
    """The server is about to stop, so no allocation is made: 300 with the `alternates` that the client may
    try (RFC 8489 section 10), else 508 (RFC 8656 section 7.2)."""

    def __init__(self, alternates: Sequence[tuple[Attribute[Any], Any]]) -> None:
        code = ErrorCode.TRY_ALTERNATE if alternates else ErrorCode.INSUFFICIENT_CAPACITY
        super().__init__(code, "The server is about to stop", alternates)


def refusal_reason(refused: Refused) -> RefusalReason:
    """Why an Allocate was refused, for those who watch."""
    if refused.limit is not None:
        return RefusalReason(refused.limit.value)
    if isinstance(refused, ReservationRefused):
        return RefusalReason.RESERVATION_TOKEN
    if isinstance(refused, Draining):
        return RefusalReason.DRAINING
    return _REASONS.get(refused.code, RefusalReason.BAD_REQUEST)


_REASONS = {
    ErrorCode.FORBIDDEN: RefusalReason.CLIENT_ADDRESS,
    ErrorCode.UNKNOWN_ATTRIBUTE: RefusalReason.UNKNOWN_ATTRIBUTE,
    ErrorCode.ALLOCATION_MISMATCH: RefusalReason.ALLOCATION_EXISTS,
    ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED: RefusalReason.ADDRESS_FAMILY,
    ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL: RefusalReason.RELAYED_TRANSPORT,
    ErrorCode.INSUFFICIENT_CAPACITY: RefusalReason.RELAY_PORTS,
}
