"""StreamListener and StreamConnection: TURN over TCP and TLS (RFC 8656 sections 3.1 and 12.5)."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

from stunwire import DecodeError, StreamFramer

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.relay.plane import ChannelForwarder
from turnrelay.transports.driver import Driver, transport_address

_WRITE_BUFFER = 1024 * 1024
"""Bytes a client may lag behind; then its data is dropped, as UDP would drop it, and nobody else waits."""
_ANSWER_RESERVE = 256 * 1024
_LAST_STUN_BYTE = 3
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_ACCEPT_PAUSE_SECONDS = 0.5
_HANDSHAKE_SECONDS = 10.0


class StreamConnection(asyncio.Protocol):
    """One client's TCP or TLS connection. Whatever breaks here closes this connection and no other."""

    padded = True
    address = None

    def __init__(self, listener: "StreamListener", prefix: bytes) -> None:
        """`prefix` is the token that ConnectionLimits gave for it."""
        self._listener = listener
        self._driver = listener.driver
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._prefix: bytes | None = prefix
        self._congested = False
        self.channels: dict[int, ChannelForwarder] = {}
        self.path: FiveTuple | None = None
        self.idle_since = listener.driver.clock()

    # -- asyncio.Protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not local:
            self._transport.abort()  # gone already
            return
        client = ClientAddress(transport_address(peer))
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        server = ServerAddress(transport_address(local))
        self.path = FiveTuple(self._listener.kind, server, client)
        self._driver.add_stream(self.path, self)
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.path is None:
            return
        now = self._driver.clock()
        try:
            frames = self._framer.feed(data)
        except DecodeError:
            self._break()
            return
        for frame in frames:
            if frame[0] > _LAST_STUN_BYTE:
                forwarder = self.channels.get(frame[0] << 8 | frame[1])
                if forwarder is None:
                    self._listener.unbound += 1
                else:
                    forwarder.forward(memoryview(frame)[4:], now)
            else:
                self._driver.receive(frame, self.path)
        if frames:
            self.idle_since = now
        if self._framer.failed:
            self._break()

    def _break(self) -> None:
        """There is no way to find the next message in a broken stream."""
        self._listener.broken += 1
        self.abort()

    def eof_received(self) -> bool:
        return False  # a client that stopped writing is gone

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        if self.path is not None:
            self._listener.connections.discard(self)
            path, self.path = self.path, None
            self._driver.disconnected(path)

    def leave(self) -> None:
        """Gives the place among the connections back, once."""
        if self._prefix is not None:
            self._listener.limits.leave(self._prefix)
            self._prefix = None

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False

    # -- Endpoint and ClientLink ------------------------------------------------------------------------

    def reply(self, path: FiveTuple, data: bytes) -> None:
        """Answers go out even where data is dropped, since over a stream nobody asks twice. A client that
        reads nothing and still asks has its connection closed."""
        if self._transport is None:
            return
        if self._congested and self._transport.get_write_buffer_size() > _WRITE_BUFFER + _ANSWER_RESERVE:
            self.abort()
            return
        self._transport.write(data)

    def link(self, path: FiveTuple) -> "StreamConnection":
        return self

    def release(self, path: FiveTuple) -> None:
        self.channels.clear()

    def sendto(self, frame: memoryview, address: object, /) -> int:
        if self._congested or self._transport is None:
            raise BlockingIOError
        self._transport.write(bytes(frame))  # a copy: the frame lies in a buffer that is used again
        return len(frame)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class StreamListener:
    """One listening TCP address; TLS if it has a context."""

    def __init__(
        self, driver: Driver, limits: ConnectionLimits, idle_seconds: float, tls: ssl.SSLContext | None
    ) -> None:
        self.driver = driver
        self.limits = limits
        self.kind = Transport.TLS if tls else Transport.TCP
        self.connections: set[StreamConnection] = set()
        self.refused = 0
        self.broken = 0
        self.unbound = 0
        self.tls = tls
        """For connections to come; it can be replaced."""
        self._idle_seconds = idle_seconds
        self._sock: socket.socket | None = None
        self._welcoming: set[asyncio.Task[None]] = set()
        self.port = 0

    def open(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        """Starts listening; raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._sock.setblocking(False)
        self.port = self._sock.getsockname()[1]
        self._loop = loop
        loop.add_reader(self._sock, self._accept)

    def close_idle(self, has_allocation: Callable[[FiveTuple], bool]) -> None:
        """Closes streams that hold no allocation and have been silent for too long."""
        too_long = self.driver.clock() - self._idle_seconds
        for connection in list(self.connections):
            path = connection.path
            if path is not None and connection.idle_since < too_long and not has_allocation(path):
                connection.abort()

    def close(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        for task in list(self._welcoming):
            task.cancel()
        for connection in list(self.connections):
            connection.abort()

    def _accept(self) -> None:
        """Takes waiting connections, a bounded number.

        Accepted here and not by asyncio, a connection counts before its TLS handshake: otherwise whoever
        never finishes a handshake could hold any number of sockets.
        """
        assert self._sock is not None  # close() stops the calls
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._pause_accepting()
                return
            prefix = self.limits.admit(peer[0])
            if prefix is None:
                self.refused += 1
                sock.close()
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._welcome(sock, prefix))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)

    async def _welcome(self, sock: socket.socket, prefix: bytes) -> None:
        connection = StreamConnection(self, prefix)
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self.tls,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if self.tls else None,
            )
        except (OSError, asyncio.CancelledError):  # also a failed handshake, which is an OSError
            sock.close()
            connection.leave()

    def _pause_accepting(self) -> None:
        """Out of descriptors or memory: a listening socket that stays readable must not busy the loop."""
        if self._sock is None:
            return
        self.refused += 1
        self._loop.remove_reader(self._sock)
        self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._accept)
