"""Messages out of byte streams: STUN and ChannelData (RFC 8656 section 12.5), and RFC 4571.

A framer is fed what a socket gives, in pieces of any size, and returns the frames completed by it. Its buffer
holds less than one frame, at most 65,555 bytes, beside the piece it is given.
"""

from __future__ import annotations

from stunwire.errors import DecodeError
from stunwire.message_types import HEADER_SIZE, MAGIC_COOKIE

_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")


class StreamFramer:
    """STUN messages and ChannelData from TCP or TLS."""

    __slots__ = ("_buffer", "_failure")

    def __init__(self) -> None:
        self._buffer = b""
        self._failure: DecodeError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes: STUN messages whole, ChannelData without its padding.

        DecodeError as soon as the stream can be neither; it is past saving then. Frames completed by the same
        piece are returned first and the error is raised by the next call, so that frames do not depend on how
        the stream was cut.
        """
        if self._failure is not None:
            raise self._failure
        buffer = self._buffer + data if self._buffer else data
        size = len(buffer)
        frames: list[bytes] = []
        offset = 0
        try:
            while size - offset >= 4:
                first = buffer[offset]
                length = buffer[offset + 2] << 8 | buffer[offset + 3]
                if first < 0x40:
                    end = step = offset + HEADER_SIZE + length
                    _check_stun(buffer, offset, length)
                elif first < 0x50:
                    end = offset + 4 + length
                    step = end + (-length & 3)
                else:
                    raise DecodeError("stream", f"byte {first:#04x} begins neither STUN nor ChannelData")
                if step > size:
                    break
                frames.append(buffer[offset:end])
                offset = step
            else:
                if offset < size and buffer[offset] >= 0x50:
                    raise DecodeError(
                        "stream", f"byte {buffer[offset]:#04x} begins neither STUN nor ChannelData"
                    )
        except DecodeError as error:
            self._failure = error
            self._buffer = b""
            if not frames:
                raise
            return frames
        self._buffer = buffer[offset:] if offset else buffer
        return frames


def _check_stun(buffer: bytes, offset: int, length: int) -> None:
    if length & 3:
        raise DecodeError("stream", f"a STUN message of length {length}")
    cookie = buffer[offset + 4 : offset + 8]
    if not _COOKIE.startswith(cookie):
        raise DecodeError("stream", "a STUN message without magic cookie")


class Rfc4571Framer:
    """Datagrams from a stream, each behind a 16-bit length (RFC 4571 section 2; ICE over TCP, RFC 6544)."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The datagrams that `data` completes. Length 0 is valid and gives an empty one. Nothing is an error."""
        buffer = self._buffer + data if self._buffer else data
        size = len(buffer)
        frames: list[bytes] = []
        offset = 0
        while size - offset >= 2:
            end = offset + 2 + (buffer[offset] << 8 | buffer[offset + 1])
            if end > size:
                break
            frames.append(buffer[offset + 2 : end])
            offset = end
        self._buffer = buffer[offset:] if offset else buffer
        return frames


def frame_rfc4571(data: bytes) -> bytes:
    """`data` behind its length; ValueError past 65,535 bytes."""
    if len(data) > 0xFFFF:
        raise ValueError(f"{len(data)} bytes, at most 65535 fit an RFC 4571 frame")
    return len(data).to_bytes(2, "big") + data
