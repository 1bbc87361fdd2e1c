"""What a link decides, as values. This is the whole vocabulary; a driver carries each out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class CloseCode(IntEnum):
    """Application error codes (RFC 9000 section 20.2) with which a link or a stream is ended."""

    DONE = 0
    """Both sides said what they had to say."""
    PROTOCOL_VIOLATION = 1
    """The peer sent what this protocol does not know or allow."""
    SESSION_UNKNOWN = 2
    """The peer speaks of a session that this side does not have."""
    NOT_READ = 3
    """Nobody reads the stream any more."""
    ABANDONED = 4
    """Its writer gave the stream up."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """One datagram for the peer, by whatever path there is."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Established:
    """Both sides have proven their keys, and the peer is known to have accepted ours."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The link is over; nothing follows. `reason` is for people.

    `code` is one of CloseCode for `application` closes, else a QUIC transport error (RFC 9000 section 20.1).
    """

    reason: str
    by_peer: bool
    code: int
    application: bool = False


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes in order. `end` says that none follow. `SecureLink.consumed` lets the peer send as many again."""

    stream: int
    data: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer gave up sending on this stream."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The peer does not read this stream any more.

    It counts as open until `SecureLink.reset_stream` ends this side's direction.
    """

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """One unreliable datagram (RFC 9221)."""

    data: bytes


LinkOutput = Transmit | Established | LinkClosed | StreamData | StreamReset | StreamStopped | DatagramReceived
