"""TlsConnection: TLS between a TCP connection and what is served by it.

The event loops have their own, which cost about as much as OpenSSL itself where each record is a frame of a
client's. Here the mover has records decrypted where it takes frames apart.
"""

import asyncio
import enum
import ssl
from typing import Any, cast

from turnrelay.relay.mover import MovedStream

HANDSHAKE_SECONDS = 10.0
_CLOSING_SECONDS = 30.0
"""How long a client may take to read what was written before the end, and to end its own side."""
_RECORD = 16_384
_DEFAULT_MOST_WRITTEN = 65_536
"""Of asyncio's transports."""
_MOST_UNASKED = 65_536
"""Bytes of TLS's own, refusals to renegotiate, that a client may leave unread."""


class _State(enum.Enum):
    SHAKING_HANDS = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    """Our close_notify is written; the client's is waited for, and what comes before it left aside."""
    CLOSED = enum.auto()


async def serve_tls(sock: Any, context: ssl.SSLContext, protocol: asyncio.Protocol) -> None:
    """Serves an accepted socket; returns when the handshake is done, and raises OSError if it fails."""
    loop = asyncio.get_running_loop()
    connection = TlsConnection(loop, context, protocol)
    try:
        await loop.connect_accepted_socket(lambda: connection, sock)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await connection.handshake
    except TimeoutError as error:
        connection.abort()
        raise ConnectionAbortedError("the handshake took too long") from error
    except asyncio.CancelledError:
        connection.abort()
        raise


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """To the event loop the protocol of a TCP connection, to `protocol` its transport."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, protocol: asyncio.Protocol
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        super().__init__({"ssl_object": self._tls, "sslcontext": context})
        self.handshake: asyncio.Future[None] = loop.create_future()
        self._state = _State.SHAKING_HANDS
        self._tcp: asyncio.Transport | None = None
        self._is_paused = False
        self._most_written = _DEFAULT_MOST_WRITTEN
        self._closing: asyncio.TimerHandle | None = None
        self._is_handed_down = False
        """Whether the mover reads instead of the protocol."""

    # -- asyncio.Protocol, towards the event loop ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self.read_on()

    def eof_received(self) -> bool:
        return False  # without a close_notify, and TLS has no end of one direction alone: all is over

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._state = _State.CLOSED
        if not self.handshake.done():
            self.handshake.set_exception(exc or ConnectionResetError("the client left during the handshake"))
        elif not self.handshake.cancelled() and self.handshake.exception() is None:
            self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._state is not _State.SHAKING_HANDS:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._state is not _State.SHAKING_HANDS:
            self._protocol.resume_writing()

    # -- what comes ---------------------------------------------------------------------------------------

    def give_records_to(self, moved: MovedStream) -> None:
        """From now on the mover decrypts what comes, until `take_records_back`."""
        assert self._tcp is not None
        # SSLObject's own method is Python, and would take a third of the time that it takes to read a record.
        read = getattr(self._tls, "_sslobj", self._tls).read
        feed = moved.records(self, self._incoming, self._outgoing, read)
        self.data_received = feed  # type: ignore[method-assign, assignment]
        self._tcp.set_protocol(self)  # event loops keep the method
        self._is_handed_down = True

    def take_records_back(self) -> None:
        if self._is_handed_down:
            self._is_handed_down = False
            del self.data_received
            if self._tcp is not None:
                self._tcp.set_protocol(self)

    def records_ended(self, reason: Exception) -> None:
        if isinstance(reason, EOFError):
            self._client_ended()
        else:
            self._break_off()

    def read_on(self) -> None:
        if self._state is _State.SHAKING_HANDS and not self._shake_hands():
            return
        while self._incoming.pending and not self._is_paused and self._state is not _State.CLOSED:
            if self._is_handed_down:
                self.data_received(b"")
                return
            try:
                data = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                self._break_off()
                return
            if not data:
                self._client_ended()
                return
            if self._state is _State.OPEN:
                self._protocol.data_received(data)
        if self._outgoing.pending:
            self.answer()

    def _shake_hands(self) -> bool:
        """Whether that is done."""
        if self.handshake.done():  # given up
            return False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except OSError as error:  # SSLError is one; the alert that tells the client why is written
            self._state = _State.CLOSED
            self._flush()
            self._close_tcp()
            self.handshake.set_exception(error)
            return False
        self._flush()
        self._state = _State.OPEN
        self.handshake.set_result(None)
        self._protocol.connection_made(self)
        return True

    def answer(self) -> None:
        """What TLS itself has to say, no to a renegotiation, goes out; not to one who reads nothing."""
        if self.get_write_buffer_size() > self._most_written + _MOST_UNASKED:
            self.abort()
        else:
            self._flush()

    def _client_ended(self) -> None:
        """By close_notify: nothing more comes."""
        if self._state is _State.OPEN:
            self._protocol.eof_received()
            self.close()
        elif self._state is _State.CLOSING:
            self._state = _State.CLOSED
            self._close_tcp()

    def _break_off(self) -> None:
        """What came is no TLS, or forged. The alert that says so is written."""
        self._state = _State.CLOSED
        self.take_records_back()
        self._flush()
        self._close_tcp()

    # -- asyncio.Transport, towards the protocol ------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if self._tcp is None or name in ("ssl_object", "sslcontext"):
            return super().get_extra_info(name, default)
        return self._tcp.get_extra_info(name, default)

    def is_reading(self) -> bool:
        return not self._is_paused and not self.is_closing()

    def pause_reading(self) -> None:
        self._is_paused = True
        if self._tcp is not None and not self._tcp.is_closing():
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_paused:
            return
        self._is_paused = False
        if self._tcp is not None and not self._tcp.is_closing():
            self._tcp.resume_reading()
            self._loop.call_soon(self.read_on)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert self._tcp is not None  # the protocol knows of this connection
        self._most_written = _DEFAULT_MOST_WRITTEN if high is None else high
        self._tcp.set_write_buffer_limits(self._most_written, low)

    def get_write_buffer_size(self) -> int:
        return 0 if self._tcp is None else self._tcp.get_write_buffer_size()

    def write(self, data: Any) -> None:
        if self._state is not _State.OPEN or not data:
            return
        try:
            while (written := self._tls.write(data)) < len(data):
                data = memoryview(data)[written:]
        except ssl.SSLError:
            self._break_off()
            return
        self._flush()

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        closed = self._state in (_State.CLOSING, _State.CLOSED)
        return closed or (self._tcp is not None and self._tcp.is_closing())

    def close(self) -> None:
        """Writes close_notify behind what was written, and waits for the client's; for so long at most."""
        if self._state is _State.SHAKING_HANDS:
            self.abort()
        if self._state is not _State.OPEN:
            return
        self._state = _State.CLOSING
        self.take_records_back()
        self.resume_reading()
        try:
            while self._incoming.pending and self._tls.read(_RECORD):
                pass  # nobody is served any more
        except ssl.SSLError:
            pass
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
            self._closing = self._loop.call_later(_CLOSING_SECONDS, self.abort)
        except OSError:
            self._break_off()
        else:
            self._state = _State.CLOSED
            self._flush()
            self._close_tcp()

    def abort(self) -> None:
        self._state = _State.CLOSED
        self.take_records_back()
        if self._tcp is not None:
            self._tcp.abort()

    def _flush(self) -> None:
        if self._tcp is not None and (data := self._outgoing.read()):
            self._tcp.write(data)

    def _close_tcp(self) -> None:
        """When all is written, or nobody has read it for too long."""
        if self._tcp is not None:
            self._tcp.close()
            if self._closing is None:
                self._closing = self._loop.call_later(_CLOSING_SECONDS, self._tcp.abort)
