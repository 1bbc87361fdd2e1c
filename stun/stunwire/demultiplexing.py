"""Telling protocols on one port apart by the first byte (RFC 7983, updated by RFC 9443)."""

from __future__ import annotations

from enum import Enum, auto

from stunwire.message_types import HEADER_SIZE, MAGIC_COOKIE


class Protocol(Enum):
    """What a datagram claims to be by its first byte; NONE is for the bytes nobody owns: drop it."""

    STUN = auto()
    ZRTP = auto()
    DTLS = auto()
    TURN_CHANNEL = auto()
    QUIC = auto()
    RTP = auto()
    NONE = auto()


# RFC 9443 section 2, figure 2. 64 to 79 are QUIC as well, which only the sender's address can tell: what
# comes from a TURN server is TURN_CHANNEL.
_RANGES = (
    (0, 3, Protocol.STUN),
    (4, 15, Protocol.NONE),
    (16, 19, Protocol.ZRTP),
    (20, 63, Protocol.DTLS),
    (64, 79, Protocol.TURN_CHANNEL),
    (80, 127, Protocol.QUIC),
    (128, 191, Protocol.RTP),
    (192, 255, Protocol.QUIC),
)
_PROTOCOLS = tuple(protocol for low, high, protocol in _RANGES for _ in range(low, high + 1))
_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")


def classify(first_byte: int) -> Protocol:
    """The protocol of a datagram that begins with `first_byte` (0 to 255)."""
    return _PROTOCOLS[first_byte]


def is_stun(data: bytes | bytearray | memoryview) -> bool:
    """Whether `data` is worth `Message.decode`: zero top bits, magic cookie, length a multiple of 4."""
    return len(data) >= HEADER_SIZE and data[0] < 0x40 and not data[3] & 3 and data[4:8] == _COOKIE


def is_channel_data(data: bytes | bytearray | memoryview) -> bool:
    """Whether `data` begins like ChannelData (0x40 to 0x4F)."""
    return len(data) > 0 and data[0] >> 4 == 4
