"""Framing: how TURN messages lie in a stream of bytes. Sans-IO."""

from __future__ import annotations

from typing import Protocol

from stunwire import DecodeError, StreamFramer


class FramingBroken(Exception):
    """The stream is past saving; the message says what the server did."""


class Framing(Protocol):
    """One side of one stream."""

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent."""

    def begin(self) -> bytes:
        """What is sent first, before any frame; empty where nothing is."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. FramingBroken once the stream is past saving."""

    def feed_eof(self) -> None:
        """The stream has ended. FramingBroken where there is more to say about it than that."""

    def pending(self) -> bytes:
        """What the last `feed` wants answered."""

    def wrap(self, frame: bytes) -> bytes:
        """A frame as it lies in the stream."""

    def end(self) -> bytes:
        """What is sent last."""


class StunFraming:
    """STUN messages and ChannelData one after the other, as over TCP and TLS (RFC 8489 section 6.2.2)."""

    is_open = True

    def __init__(self) -> None:
        self._framer = StreamFramer()

    def begin(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> list[bytes]:
        try:
            return self._framer.feed(data)
        except DecodeError as error:
            raise FramingBroken(f"what the server sends is not STUN ({error})") from error

    def feed_eof(self) -> None:
        pass

    def pending(self) -> bytes:
        return b""

    def wrap(self, frame: bytes) -> bytes:
        return frame

    def end(self) -> bytes:
        return b""
