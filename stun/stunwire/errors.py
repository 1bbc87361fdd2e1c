"""The one exception for other people's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stunwire.message_types import Header


class DecodeError(ValueError):
    """Received bytes break the wire format; no other exception comes out of any decoder.

    `place` names the field or attribute ("header", "XOR-PEER-ADDRESS"), out of a few dozen, so that it may
    label a metric. `reason` says what is wrong with it, without quoting text or addresses.

    `header` is set when the framing of a STUN message was sound and only the value of an attribute was not:
    then there is a transaction to answer, with 400 (RFC 8489 section 6.3). It is None for everything else,
    which is dropped in silence.
    """

    def __init__(self, place: str, reason: str, header: Header | None = None) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason
        self.header = header
