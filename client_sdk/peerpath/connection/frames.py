"""What the control stream is made of: frames of a message session, as bytes and back.

    HELLO    01, session (16), known (16), received (8), taken (8), bytes (4), messages (4), largest (4)
    MESSAGE  02, length (4), payload
    TAKEN    03, taken (8)
    CLOSE    04, length (2), reason in UTF-8

Numbers are big-endian. A message carries no sequence number: the first one after a HELLO is the one that the
peer's HELLO asks for, and the stream keeps the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from peerpath.errors import PeerpathError

SESSION_BYTES = 16
MESSAGE_HEAD_BYTES = 5
_HELLO, _MESSAGE, _TAKEN, _CLOSE = 1, 2, 3, 4
_HELLO_FORM = Struct("!B16s16sQQIII")
_MESSAGE_FORM = Struct("!BI")
_TAKEN_FORM = Struct("!BQ")
_CLOSE_FORM = Struct("!BH")
_HEADS = {_HELLO: _HELLO_FORM, _MESSAGE: _MESSAGE_FORM, _TAKEN: _TAKEN_FORM, _CLOSE: _CLOSE_FORM}
_LONGEST_REASON = 1024


class ProtocolViolation(PeerpathError):
    """The peer sent what no implementation of this protocol sends: its bug, or its malice."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks on this link, what they have of the other side, and what they are willing to hold."""

    session: bytes
    known: bytes
    """The session that they take the other side to be; zeros where they never heard from it."""
    received: int
    """Messages received so far, so the number of the next one that they expect."""
    taken: int
    """Messages that their application has taken."""
    window_bytes: int
    window_messages: int
    max_message: int

    def encode(self) -> bytes:
        return _HELLO_FORM.pack(
            _HELLO,
            self.session,
            self.known,
            self.received,
            self.taken,
            self.window_bytes,
            self.window_messages,
            self.max_message,
        )


@dataclass(frozen=True, slots=True)
class Message:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """How many messages the application has taken, from the first on."""

    count: int

    def encode(self) -> bytes:
        return _TAKEN_FORM.pack(_TAKEN, self.count)


@dataclass(frozen=True, slots=True)
class Close:
    """The last frame: everything before it is all there is."""

    reason: str

    def encode(self) -> bytes:
        text = self.reason.encode()[:_LONGEST_REASON].decode(errors="ignore").encode()
        return _CLOSE_FORM.pack(_CLOSE, len(text)) + text


Frame = Hello | Message | Taken | Close


def message_head(size: int) -> bytes:
    """What stands before the payload of a message."""
    return _MESSAGE_FORM.pack(_MESSAGE, size)


class FrameReader:
    """Frames out of a stream's bytes, however they are cut. Holds one unfinished frame at most."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; ProtocolViolation at the first that cannot be."""
        self._buffer += data
        at = 0
        try:
            while (found := self._next(at)) is not None:
                frame, at = found
                yield frame
        finally:
            del self._buffer[:at]

    def _next(self, at: int) -> tuple[Frame, int] | None:
        if at == len(self._buffer):
            return None
        kind = self._buffer[at]
        form = _HEADS.get(kind)
        if form is None:
            raise ProtocolViolation(f"there is no frame of type {kind}")
        payload = at + form.size
        if len(self._buffer) < payload:
            return None
        fields = form.unpack_from(self._buffer, at)[1:]
        if kind == _HELLO:
            return Hello(*fields), payload
        if kind == _TAKEN:
            return Taken(fields[0]), payload
        size = fields[0]
        largest = self._max_message if kind == _MESSAGE else _LONGEST_REASON
        if size > largest:
            raise ProtocolViolation(f"a frame of type {kind} has {size} bytes, at most {largest} were agreed")
        end = payload + size
        if len(self._buffer) < end:
            return None
        content = bytes(memoryview(self._buffer)[payload:end])
        if kind == _MESSAGE:
            return Message(content), end
        return Close(content.decode(errors="replace")), end
