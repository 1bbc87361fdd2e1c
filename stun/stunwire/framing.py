"""Messages out of byte streams: STUN and ChannelData (RFC 8656 section 12.5), and RFC 4571.

A framer is fed what a socket gives, in pieces of any size, and returns the frames that are complete. It
keeps less than one frame, at most 65,555 bytes, and each byte is copied a fixed number of times.
"""

from __future__ import annotations

from stunwire.channel_data import MAX_CHANNEL_RFC5766
from stunwire.errors import DecodeError
from stunwire.message_types import HEADER_SIZE, MAGIC_COOKIE

_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
# On a stream nothing else is multiplexed, so all the channels of RFC 5766 can be told from STUN: which of
# them may be bound is for the server to say.
_FIRST_AFTER_CHANNELS = (MAX_CHANNEL_RFC5766 >> 8) + 1


class StreamFramer:
    """STUN messages and ChannelData from TCP or TLS."""

    __slots__ = ("_failure", "_needed", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        # How many bytes the tail must reach before looking at it again can tell anything new.
        self._needed = 1
        self._failure: DecodeError | None = None

    @property
    def failed(self) -> bool:
        """Whether the stream is past saving, so that the next call of `feed` raises."""
        return self._failure is not None

    @property
    def holds_part(self) -> bool:
        """Whether a frame has begun that is not complete yet."""
        return bool(self._tail)

    @property
    def unread(self) -> bytes:
        """The beginning of a frame that is not complete yet; fed to another framer, that one goes on."""
        return bytes(self._tail)

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """The frames that `data` completes: STUN messages whole, ChannelData without its padding.

        DecodeError as soon as the stream can be neither; it is past saving then. Frames that the same piece
        completed are returned first and the next call raises, so that the frames do not depend on how the
        stream was cut.
        """
        if self._failure is not None:
            raise self._failure
        if self._tail:
            self._tail += data
            if len(self._tail) < self._needed:
                return []
            data = bytes(self._tail)
        elif type(data) is not bytes:
            data = bytes(data)
        frames: list[bytes] = []
        offset = 0
        try:
            offset = self._split(data, frames)
        except DecodeError as error:
            self._failure = error
            self._tail.clear()
            if not frames:
                raise
            return frames
        self._tail = bytearray(data[offset:]) if offset < len(data) else bytearray()
        return frames

    def _split(self, data: bytes, frames: list[bytes]) -> int:
        """Append the whole frames in `data` to `frames`; return where the unfinished one begins."""
        size = len(data)
        offset = 0
        while size - offset >= 4:
            first = data[offset]
            length = data[offset + 2] << 8 | data[offset + 3]
            if first < 0x40:
                end = padded_end = offset + HEADER_SIZE + length
                cookie = data[offset + 4 : offset + 8]
                if length & 3:
                    raise DecodeError("stream", f"a STUN message of length {length}")
                if cookie != _COOKIE:
                    if not _COOKIE.startswith(cookie):
                        raise DecodeError("stream", "a STUN message without magic cookie")
                    self._needed = size - offset + 1
                    return offset
            elif first < _FIRST_AFTER_CHANNELS:
                end = offset + 4 + length
                padded_end = end + (-length & 3)
            else:
                raise _neither(first)
            if padded_end > size:
                self._needed = padded_end - offset
                return offset
            frames.append(data[offset:end])
            offset = padded_end
        if offset < size and data[offset] >= _FIRST_AFTER_CHANNELS:
            raise _neither(data[offset])
        self._needed = 4
        return offset


def _neither(first: int) -> DecodeError:
    return DecodeError("stream", f"byte {first:#04x} begins neither STUN nor ChannelData")


class Rfc4571Framer:
    """Datagrams from a stream, each behind a 16-bit length (RFC 4571 section 2; ICE over TCP, RFC 6544)."""

    __slots__ = ("_needed", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._needed = 2

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """The datagrams that `data` completes, empty ones included; no byte sequence is an error."""
        if self._tail:
            self._tail += data
            if len(self._tail) < self._needed:
                return []
            data = bytes(self._tail)
        elif type(data) is not bytes:
            data = bytes(data)
        frames: list[bytes] = []
        size = len(data)
        offset = 0
        self._needed = 2
        while size - offset >= 2:
            end = offset + 2 + (data[offset] << 8 | data[offset + 1])
            if end > size:
                self._needed = end - offset
                break
            frames.append(data[offset + 2 : end])
            offset = end
        self._tail = bytearray(data[offset:]) if offset < size else bytearray()
        return frames


def frame_rfc4571(data: bytes | bytearray | memoryview) -> bytes:
    """`data` behind its length; ValueError past 65,535 bytes."""
    if len(data) > 0xFFFF:
        raise ValueError(f"{len(data)} bytes, at most 65535 fit an RFC 4571 frame")
    return b"".join((len(data).to_bytes(2, "big"), data))
