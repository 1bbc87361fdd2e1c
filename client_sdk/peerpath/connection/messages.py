"""MessageSession: messages that arrive once, in order, whatever becomes of the links beneath. Sans-IO.

Each side keeps a message until the other side's application has taken it: that word (TAKEN) is receipt and
credit in one, so a reader that stops stops the writer, and neither side ever holds more than a window. After
the loss of a link both sides say HELLO on the next: who they are, whom they know, what they expect next.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

from peerpath.connection.frames import (
    MESSAGE_HEAD_BYTES,
    SESSION_BYTES,
    Close,
    FrameReader,
    Hello,
    Message,
    ProtocolViolation,
    Taken,
    message_head,
)
from peerpath.connection.options import ConnectionOptions
from peerpath.errors import PeerpathError

_NOBODY = bytes(SESSION_BYTES)


class SessionUnknown(PeerpathError):
    """Both sides do not speak of the same session. `fatal` unless this side has none to lose yet."""

    def __init__(self, reason: str, *, fatal: bool) -> None:
        super().__init__(reason)
        self.fatal = fatal


class MessageSession:
    """One side of the conversation. Sequence numbers count from 0 and are the same on every link."""

    def __init__(self, options: ConnectionOptions | None = None) -> None:
        self.options = options = options or ConnectionOptions()
        self.session_id = os.urandom(SESSION_BYTES)
        self.peer_session: bytes | None = None
        self.is_resumed = False
        """Whether both sides have said HELLO on the present link."""
        self.peer_closed: str | None = None
        """The reason that the peer gave when it closed; None while it has not."""
        # Sending.
        self.taken_by_peer = 0
        self.bytes_taken_by_peer = 0
        self.queued_bytes = 0
        self._unacknowledged: dict[int, bytes] = {}
        self._sequence = 0
        self._next_to_send = 0
        self._sent_bytes = 0
        self._rest = memoryview(b"")
        self._peer_bytes = options.window_bytes
        self._peer_messages = options.window_messages
        self._peer_largest = options.max_message
        # Receiving.
        self.taken = 0
        self.bytes_taken = 0
        self._received = 0
        self._arrived: deque[bytes] = deque()
        self._arrived_bytes = 0
        self._told = 0
        self._untold_bytes = 0
        self._tell_at: float | None = None
        # The link.
        self._reader = FrameReader(options.max_message)
        self._hello_due = False
        self._closing: str | None = None
        self._close_due = False

    # -- the application writes -----------------------------------------------------------------------------

    @property
    def max_message(self) -> int:
        """The largest message that both sides allow, as far as is known."""
        return min(self.options.max_message, self._peer_largest)

    @property
    def queued(self) -> int:
        """Messages that the peer's application has not taken."""
        return len(self._unacknowledged)

    def has_room(self, size: int) -> bool:
        """Whether a message of `size` bytes fits into the window; into an empty one every message does."""
        window_bytes = min(self.options.window_bytes, self._peer_bytes)
        window_messages = min(self.options.window_messages, self._peer_messages)
        return not self.queued or (self.queued_bytes + size <= window_bytes and self.queued < window_messages)

    def put(self, message: bytes) -> int:
        """Takes a message to be sent: its sequence number. `has_room` has to be true."""
        sequence = self._sequence
        self._unacknowledged[sequence] = message
        self.queued_bytes += len(message)
        self._sequence += 1
        return sequence

    def close(self, reason: str) -> None:
        """Says, after all messages, that there will be no more."""
        self._closing = reason
        self._close_due = True

    @property
    def is_close_sent(self) -> bool:
        """Whether everything was handed to the link, CLOSE being the last of it."""
        return self._closing is not None and not self._close_due and not self._rest

    # -- the application reads ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Messages that can be taken."""
        return len(self._arrived)

    @property
    def waiting_bytes(self) -> int:
        return self._arrived_bytes

    def take(self, now: float) -> bytes:
        """The next message, in order. `waiting` has to be more than 0."""
        message = self._arrived.popleft()
        self._arrived_bytes -= len(message)
        self.taken += 1
        self.bytes_taken += len(message)
        self._untold_bytes += len(message)
        if self._tell_at is None:
            self._tell_at = now + self.options.acknowledge_after
        if self._untold_bytes * 4 >= self.options.window_bytes or (
            (self.taken - self._told) * 4 >= self.options.window_messages
        ):
            self._tell_at = now
        return message

    # -- the link -------------------------------------------------------------------------------------------

    def link_up(self) -> None:
        """A new link: HELLO first, and nothing else before the peer's."""
        self.link_down()
        self._hello_due = True
        self._close_due = self._closing is not None

    def link_down(self) -> None:
        """The link is gone, with whatever was under way on it."""
        self.is_resumed = False
        self._hello_due = False
        self._rest = memoryview(b"")
        self._reader = FrameReader(self.options.max_message)

    def receive(self, data: bytes) -> None:
        """Bytes of the control stream. ProtocolViolation or SessionUnknown: close the link then."""
        for frame in self._reader.feed(data):
            if isinstance(frame, Hello):
                self._hello(frame)
            elif not self.is_resumed:
                raise ProtocolViolation("the first frame of a link has to be HELLO")
            elif isinstance(frame, Message):
                self._message(frame.payload)
            elif isinstance(frame, Taken):
                self._taken(frame.count)
            else:
                self.peer_closed = frame.reason

    def next_deadline(self) -> float | None:
        """When `to_send` has something that was held back for company."""
        return self._tell_at if self.is_resumed else None

    def to_send(self, room: int, now: float) -> bytes:
        """At most `room` bytes more for the control stream."""
        if room <= 0:
            return b""
        parts: list[bytes | memoryview] = []
        if self._rest:
            parts.append(self._rest)
        if self._hello_due:
            self._hello_due = False
            parts.append(self._our_hello().encode())
        size = sum(map(len, parts))
        if self.is_resumed:
            if self._tell_at is not None and (now >= self._tell_at or self._next_to_send < self._sequence):
                parts.append(self._tell())
                size += len(parts[-1])
            size += self._add_messages(parts, room - size)
            if self._close_due and self._next_to_send == self._sequence:
                self._close_due = False
                parts.append(Close(self._closing or "").encode())
        data = b"".join(parts)
        self._rest = memoryview(data)[room:]
        return data[:room]

    def _add_messages(self, parts: list[bytes | memoryview], room: int) -> int:
        added = 0
        while added < room and self._next_to_send < self._sequence:
            message = self._unacknowledged[self._next_to_send]
            outstanding = self._next_to_send - self.taken_by_peer
            # What was put before the peer told its window may be more than that.
            if outstanding and (
                self._sent_bytes + len(message) > self._peer_bytes or outstanding >= self._peer_messages
            ):
                break
            parts += (message_head(len(message)), message)
            added += MESSAGE_HEAD_BYTES + len(message)
            self._sent_bytes += len(message)
            self._next_to_send += 1
        return added

    def _tell(self) -> bytes:
        self._told = self.taken
        self._untold_bytes = 0
        self._tell_at = None
        return Taken(self.taken).encode()

    def _our_hello(self) -> Hello:
        self._told = self.taken
        self._untold_bytes = 0
        self._tell_at = None
        return Hello(
            self.session_id,
            self.peer_session or _NOBODY,
            self._received,
            self.taken,
            self.options.window_bytes,
            self.options.window_messages,
            self.options.max_message,
        )

    # -- frames of the peer ---------------------------------------------------------------------------------

    def _hello(self, hello: Hello) -> None:
        if self.is_resumed:
            raise ProtocolViolation("HELLO was said twice on a link")
        if self.peer_session not in (None, hello.session):
            raise SessionUnknown(
                "the peer was started anew and knows nothing of this connection: make a new one", fatal=True
            )
        if hello.known not in (_NOBODY, self.session_id):
            raise SessionUnknown(
                "the peer still held a connection to an earlier start of this side; it has ended that one: "
                "connect again",
                fatal=self.peer_session is not None,
            )
        if not self.taken_by_peer <= hello.taken <= hello.received <= self._next_to_send:
            raise ProtocolViolation("the peer has messages that were never sent, or has lost some it had")
        self.peer_session = hello.session
        self._peer_bytes, self._peer_messages = hello.window_bytes, hello.window_messages
        self._peer_largest = hello.max_message
        self._next_to_send = hello.received
        self._taken(hello.taken)
        self._sent_bytes = self._size_of(range(self.taken_by_peer, hello.received))
        self.is_resumed = True
        if any(len(message) > self._peer_largest for message in self._unacknowledged.values()):
            raise ProtocolViolation(f"the peer takes messages of at most {self._peer_largest} bytes")

    def _message(self, payload: bytes) -> None:
        if self.peer_closed is not None:
            raise ProtocolViolation("a message came after CLOSE")
        if self._arrived and (
            self._arrived_bytes + len(payload) > self.options.window_bytes
            or len(self._arrived) >= self.options.window_messages
        ):
            raise ProtocolViolation("the peer sent more than the window allows")
        self._received += 1
        self._arrived.append(payload)
        self._arrived_bytes += len(payload)

    def _taken(self, count: int) -> None:
        if not self.taken_by_peer <= count <= self._next_to_send:
            raise ProtocolViolation("the peer took messages that were never sent")
        for sequence in range(self.taken_by_peer, count):
            size = len(self._unacknowledged.pop(sequence))
            self.queued_bytes -= size
            self.bytes_taken_by_peer += size
            self._sent_bytes -= size
        self.taken_by_peer = count

    def _size_of(self, sequences: Iterable[int]) -> int:
        return sum(len(self._unacknowledged[sequence]) for sequence in sequences)
