"""The IANA registry "STUN Error Codes", with the phrase each RFC gives."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """An error code; `.reason` is its phrase in the RFC named beside it."""

    TRY_ALTERNATE = 300  # RFC 8489
    BAD_REQUEST = 400  # RFC 8489
    UNAUTHENTICATED = 401  # RFC 8489
    FORBIDDEN = 403  # RFC 8656
    MOBILITY_FORBIDDEN = 405  # RFC 8016
    UNKNOWN_ATTRIBUTE = 420  # RFC 8489
    ALLOCATION_MISMATCH = 437  # RFC 8656
    STALE_NONCE = 438  # RFC 8489
    ADDRESS_FAMILY_NOT_SUPPORTED = 440  # RFC 8656
    WRONG_CREDENTIALS = 441  # RFC 8656
    UNSUPPORTED_TRANSPORT_PROTOCOL = 442  # RFC 8656
    PEER_ADDRESS_FAMILY_MISMATCH = 443  # RFC 8656
    CONNECTION_ALREADY_EXISTS = 446  # RFC 6062
    CONNECTION_TIMEOUT_OR_FAILURE = 447  # RFC 6062
    ALLOCATION_QUOTA_REACHED = 486  # RFC 8656
    ROLE_CONFLICT = 487  # RFC 8445
    SERVER_ERROR = 500  # RFC 8489
    INSUFFICIENT_CAPACITY = 508  # RFC 8656

    @property
    def reason(self) -> str:
        """The default reason phrase."""
        return _REASONS[self]


def default_reason(code: int) -> str:
    """The phrase for `code`, "" for one outside the registry."""
    return _REASONS.get(code, "")


_REASONS: dict[int, str] = {
    ErrorCode.TRY_ALTERNATE: "Try Alternate",
    ErrorCode.BAD_REQUEST: "Bad Request",
    ErrorCode.UNAUTHENTICATED: "Unauthenticated",
    ErrorCode.FORBIDDEN: "Forbidden",
    ErrorCode.MOBILITY_FORBIDDEN: "Mobility Forbidden",
    ErrorCode.UNKNOWN_ATTRIBUTE: "Unknown Attribute",
    ErrorCode.ALLOCATION_MISMATCH: "Allocation Mismatch",
    ErrorCode.STALE_NONCE: "Stale Nonce",
    ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED: "Address Family not Supported",
    ErrorCode.WRONG_CREDENTIALS: "Wrong Credentials",
    ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL: "Unsupported Transport Protocol",
    ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH: "Peer Address Family Mismatch",
    ErrorCode.CONNECTION_ALREADY_EXISTS: "Connection Already Exists",
    ErrorCode.CONNECTION_TIMEOUT_OR_FAILURE: "Connection Timeout or Failure",
    ErrorCode.ALLOCATION_QUOTA_REACHED: "Allocation Quota Reached",
    ErrorCode.ROLE_CONFLICT: "Role Conflict",
    ErrorCode.SERVER_ERROR: "Server Error",
    ErrorCode.INSUFFICIENT_CAPACITY: "Insufficient Capacity",
}
