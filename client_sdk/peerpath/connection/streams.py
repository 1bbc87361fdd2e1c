"""Stream: bytes in order beside the messages, for files and the like."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from peerpath.connection.errors import StreamError
from peerpath.connection.waiting import Signal
from peerpath.quic import CloseCode

_CODES = {
    CloseCode.NOT_READ: "the peer does not read this stream any more",
    CloseCode.ABANDONED: "the peer gave this stream up",
}


class StreamCarrier(Protocol):
    """What a stream needs of the link beneath it; peerpath.connection.stream_table provides it."""

    def send_stream(self, stream: int, data: bytes, *, end: bool = False) -> None: ...
    def unacknowledged(self, stream: int) -> int: ...
    def consumed(self, stream: int, size: int) -> None: ...
    def reset_stream(self, stream: int, code: int) -> None: ...
    def stop_stream(self, stream: int, code: int) -> None: ...


class Stream:
    """A byte stream to and from the peer. Both directions end on their own.

    Its windows are those of QUIC (RFC 9000 section 4): who does not read stops the writer. It lives and dies
    with the link beneath: when that is interrupted, every call raises StreamError, and what was under way is
    lost; a file has to be taken up again on a new stream. Messages survive, streams do not.
    """

    def __init__(self, number: int, carrier: StreamCarrier, in_flight: int) -> None:
        self.number = number
        self._carrier = carrier
        self._in_flight = in_flight
        self._arrived: deque[bytes] = deque()
        self._arrived_bytes = 0
        self._changed = Signal()
        self._read_ended = False
        self._read_failure: str | None = None
        self._write_ended = False
        self._write_failure: str | None = None
        self._stopped_with: int | None = None
        self._is_taken = False

    def taken(self) -> Stream:
        """The application has it from now on. Until then it counts among those that the peer has open."""
        self._is_taken = True
        self._end_where_stopped()
        return self

    # -- writing --------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Returns when all of it is under way; waits while the peer, or the network, is slower."""
        rest = memoryview(data)
        while rest:
            self._may_write()
            room = self._in_flight - self._carrier.unacknowledged(self.number)
            if room <= 0:
                await self._changed.wait()
                continue
            self._carrier.send_stream(self.number, bytes(rest[:room]))
            rest = rest[room:]
        self._may_write()

    async def drain(self) -> None:
        """Returns when the peer's side has everything, though its application may not have read it."""
        while self._carrier.unacknowledged(self.number):
            self._fail_write()
            await self._changed.wait()
        self._fail_write()

    def write_eof(self) -> None:
        """There is nothing more to write; the peer's `read` comes to the end after the last byte."""
        if not self._write_ended and self._write_failure is None:
            self._write_ended = True
            self._carrier.send_stream(self.number, b"", end=True)

    def reset(self) -> None:
        """Gives both directions up at once: what was not delivered is lost, the peer gets a StreamError."""
        if self._write_failure is None:
            self._write_failure = "this side gave the stream up"
            self._carrier.reset_stream(self.number, CloseCode.ABANDONED)
        self._stop_reading()
        self._changed.fire()

    def close(self) -> None:
        """Writes the end, if it was not, and reads no more. What was written is still delivered."""
        self.write_eof()
        self._stop_reading()
        self._changed.fire()

    def _may_write(self) -> None:
        self._fail_write()
        if self._write_ended:
            raise StreamError("the end of this stream was written already")

    def _fail_write(self) -> None:
        if self._write_failure is not None:
            raise StreamError(self._write_failure)

    # -- reading --------------------------------------------------------------------------------------------

    async def read(self, size: int = 65_536) -> bytes:
        """At least one byte and at most `size`, as soon as there is any; b"" at the end."""
        if size <= 0:
            raise ValueError(f"size: has to be more than 0, not {size}")
        while not self._arrived_bytes:
            if self._read_failure is not None:
                raise StreamError(self._read_failure)
            if self._read_ended:
                return b""
            await self._changed.wait()
        parts: list[bytes] = []
        wanted = size
        while wanted and self._arrived:
            chunk = self._arrived.popleft()
            if len(chunk) > wanted:
                self._arrived.appendleft(chunk[wanted:])
                chunk = chunk[:wanted]
            parts.append(chunk)
            wanted -= len(chunk)
        data = b"".join(parts)
        self._arrived_bytes -= len(data)
        self._carrier.consumed(self.number, len(data))
        return data

    async def read_exactly(self, size: int) -> bytes:
        """`size` bytes; StreamError if the stream ends before."""
        parts: list[bytes] = []
        wanted = size
        while wanted:
            data = await self.read(wanted)
            if not data:
                raise StreamError(f"the stream ended {wanted} bytes before the {size} that were asked for")
            parts.append(data)
            wanted -= len(data)
        return b"".join(parts)

    def _stop_reading(self) -> None:
        if not self._read_ended and self._read_failure is None:
            self._read_failure = "this side closed the stream"
            self._carrier.stop_stream(self.number, CloseCode.NOT_READ)
        self._arrived.clear()
        self._arrived_bytes = 0

    # -- what the link says ---------------------------------------------------------------------------------

    def arrived(self, data: bytes, end: bool) -> None:
        if self._read_failure is not None:
            self._carrier.consumed(self.number, len(data))
            return
        if data:
            self._arrived.append(data)
            self._arrived_bytes += len(data)
        self._read_ended |= end
        self._changed.fire()

    def was_reset(self, code: int) -> None:
        self._read_failure = self._read_failure or _reason(code)
        self._changed.fire()

    def was_stopped(self, code: int) -> None:
        self._write_failure = self._write_failure or _reason(code)
        self._stopped_with = code
        self._end_where_stopped()
        self._changed.fire()

    def _end_where_stopped(self) -> None:
        if self._is_taken and self._stopped_with is not None:
            self._carrier.reset_stream(self.number, self._stopped_with)

    def progressed(self) -> None:
        """Something was acknowledged: there may be room."""
        self._changed.fire()

    def lost(self, reason: str) -> None:
        """The link is gone."""
        self._write_failure = self._write_failure or reason
        if not self._read_ended:
            self._read_failure = self._read_failure or reason
        self._changed.fire()


def _reason(code: int) -> str:
    try:
        return _CODES[CloseCode(code)]
    except (ValueError, KeyError):
        return f"the peer ended the stream with code {code}"
