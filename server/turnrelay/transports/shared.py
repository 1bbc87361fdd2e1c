"""SharedListener: TURN over TCP, TURN over TLS and HTTPS on one port, usually 443, told apart by what comes.

The first byte is looked at without taking it: a TLS ClientHello, a STUN message or an HTTP request. Inside
TLS the client's ALPN decides (`stun.turn` of RFC 7443, or `http/1.1`), and without it the first byte again.
A connection never begins with ChannelData, whose first bytes are letters too: no channel is bound yet.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from turnrelay.core.addresses import Transport
from turnrelay.policy.connection_limits import ConnectionLimits, Place
from turnrelay.transports.accepting import Acceptor
from turnrelay.transports.driver import Driver
from turnrelay.transports.stream import StreamClients, StreamConnection
from turnrelay.transports.tls import HTTP_ALPN, TURN_ALPN
from turnrelay.transports.tls_connection import serve_tls

_FIRST_BYTE_SECONDS = 10.0
_TLS_HANDSHAKE = 0x16  # ContentType of RFC 8446 section 5.1
_LAST_STUN_BYTE = 3
_METHOD_LETTERS = range(ord("A"), ord("Z") + 1)
_USE_HTTPS = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 25\r\n\r\nThis port wants https://\n"
)

MakeHttp = Callable[[], asyncio.Protocol]
"""What serves an HTTP connection."""


class SharedListener:
    """One listening address. Without a context there is no TLS, and HTTP is plain: for a proxy in front."""

    def __init__(
        self,
        driver: Driver,
        limits: ConnectionLimits,
        idle_seconds: float,
        tls: ssl.SSLContext | None,
        make_http: MakeHttp,
    ) -> None:
        self.tcp = StreamClients(driver, idle_seconds, Transport.TCP)
        self.over_tls = StreamClients(driver, idle_seconds, Transport.TLS)
        self.clients = (self.tcp, self.over_tls)
        self.acceptor = Acceptor(limits, self._welcome)
        self.tls = tls
        """For connections to come; it can be replaced."""
        self.make_http = make_http
        self.https: set[HttpConnection] = set()
        self.strangers = 0
        """Connections that said nothing, or what nobody here understands."""

    def open(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, given: socket.socket | None = None
    ) -> None:
        """Starts listening; raises OSError. `given` is a listening socket that somebody else opened."""
        self.acceptor.open(loop, host, port, given)

    def close(self) -> None:
        self.acceptor.close()
        for clients in self.clients:
            clients.close()
        for connection in list(self.https):
            connection.abort()

    async def _welcome(self, sock: socket.socket, place: Place) -> None:
        try:
            async with asyncio.timeout(_FIRST_BYTE_SECONDS):
                first = await _peek(sock)
            protocol = self._choose(sock, first, place)
            if protocol is None:
                raise _Stranger
            if first == _TLS_HANDSHAKE and self.tls is not None:
                await serve_tls(sock, self.tls, protocol)
            else:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
        except (OSError, asyncio.CancelledError) as error:  # also a failed handshake, which is an OSError
            self.strangers += isinstance(error, TimeoutError | _Stranger)
            sock.close()
            place.leave()

    def _choose(self, sock: socket.socket, first: int | None, place: Place) -> asyncio.Protocol | None:
        """What serves a connection that begins with this byte; None for what nobody here understands."""
        if first is None:
            return None
        if first == _TLS_HANDSHAKE:
            return None if self.tls is None else _InsideTls(self, place)
        if first <= _LAST_STUN_BYTE:
            return StreamConnection(self.tcp, place)
        if first not in _METHOD_LETTERS:
            return None
        if self.tls is None:
            return HttpConnection(self, place)
        with suppress(OSError):
            sock.send(_USE_HTTPS)
        return None


class _Stranger(OSError):
    """Neither TLS, TURN nor HTTP."""


class _InsideTls(asyncio.Protocol):
    """A TLS connection until it is known whose it is; then another protocol takes its place."""

    def __init__(self, listener: SharedListener, place: Place) -> None:
        self._listener = listener
        self._place = place
        self._transport: asyncio.Transport | None = None
        self._is_http = False
        """By its ALPN, whatever its first byte is."""
        self._give_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        agreed = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if agreed == TURN_ALPN:
            self._become(StreamConnection(self._listener.over_tls, self._place))
        else:
            self._is_http = agreed == HTTP_ALPN
            loop = asyncio.get_running_loop()
            self._give_up = loop.call_later(_FIRST_BYTE_SECONDS, self._be_a_stranger)

    def data_received(self, data: bytes) -> None:
        if self._is_http or data[0] in _METHOD_LETTERS:
            self._become(HttpConnection(self._listener, self._place)).data_received(data)
        elif data[0] <= _LAST_STUN_BYTE:
            self._become(StreamConnection(self._listener.over_tls, self._place)).data_received(data)
        else:
            self._be_a_stranger()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
        self._place.leave()

    def _become(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        assert self._transport is not None
        if self._give_up is not None:
            self._give_up.cancel()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        return protocol

    def _be_a_stranger(self) -> None:
        assert self._transport is not None
        self._listener.strangers += 1
        self._transport.abort()


class HttpConnection(asyncio.Protocol):
    """An HTTP connection that gives its place back when it ends; the HTTP server's protocol does the rest."""

    def __init__(self, listener: SharedListener, place: Place) -> None:
        self._http = listener.make_http()
        self._all = listener.https
        self._place = place
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._all.add(self)
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        self._place.leave()
        self._http.connection_lost(exc)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _peek(sock: socket.socket) -> int | None:
    """The first byte, left where it is; None at the end of the stream."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _settle, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    return first[0] if first else None


def _settle(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
