"""Refused: a request that is well formed, and denied. A refused request is its error response."""

from collections.abc import Sequence
from typing import Any

from stunwire import Attribute, ErrorCode

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
