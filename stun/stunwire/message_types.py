"""The 14-bit message type: a class and a method, interleaved (RFC 8489 section 5)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

HEADER_SIZE = 20
MAGIC_COOKIE = 0x2112A442
TRANSACTION_ID_SIZE = 12


class MessageClass(IntEnum):
    """The two class bits C1 and C0 (RFC 8489 section 5)."""

    REQUEST = 0b00
    INDICATION = 0b01
    SUCCESS_RESPONSE = 0b10
    ERROR_RESPONSE = 0b11


class Method(IntEnum):
    """The IANA registry "STUN Methods"."""

    BINDING = 0x001  # RFC 8489
    ALLOCATE = 0x003  # RFC 8656 from here
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009
    CONNECT = 0x00A  # RFC 6062 from here
    CONNECTION_BIND = 0x00B
    CONNECTION_ATTEMPT = 0x00C


class Header(NamedTuple):
    """What a STUN header says, without its length. `method` is a `Method`, or a plain int when unknown."""

    message_class: MessageClass
    method: int
    transaction_id: bytes


def join_message_type(message_class: int, method: int) -> int:
    """The type field: bits M11..M7, C1, M6..M4, C0, M3..M0."""
    known = _TYPES.get((message_class, method))
    return known if known is not None else _join(message_class, method)


def _join(message_class: int, method: int) -> int:
    return (
        (method & 0xF80) << 2
        | (message_class & 0b10) << 7
        | (method & 0x070) << 1
        | (message_class & 0b01) << 4
        | method & 0x00F
    )


def split_message_type(message_type: int) -> tuple[MessageClass, int]:
    """The class and method of a type field whose top two bits are zero."""
    known = _KNOWN.get(message_type)
    return known if known is not None else _split(message_type)


def _split(message_type: int) -> tuple[MessageClass, int]:
    message_class = (message_type >> 7) & 0b10 | (message_type >> 4) & 0b01
    method = (message_type >> 2) & 0xF80 | (message_type >> 1) & 0x070 | message_type & 0x00F
    return MessageClass(message_class), method


_KNOWN: dict[int, tuple[MessageClass, int]] = {
    _join(message_class, method): (message_class, method)
    for method in Method
    for message_class in MessageClass
}
_TYPES: dict[tuple[int, int], int] = {known: message_type for message_type, known in _KNOWN.items()}
