"""StreamListener and StreamConnection: TURN over TCP and TLS (RFC 8656 sections 3.1 and 12.5)."""

import asyncio
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
_LAST_STUN_BYTE = 3


class StreamConnection(asyncio.Protocol):
    """One client's TCP or TLS connection. Whatever breaks here closes this connection and no other."""

    padded = True
    address = None

    def __init__(self, listener: "StreamListener") -> None:
        self._listener = listener
        self._driver = listener.driver
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._prefix: bytes | None = None
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
        self._prefix = self._listener.limits.admit(client.host)
        if self._prefix is None:
            self._listener.refused += 1
            self._transport.abort()
            return
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
        if self._prefix is not None:
            self._listener.limits.leave(self._prefix)
        if self.path is not None:
            self._listener.connections.discard(self)
            path, self.path = self.path, None
            self._driver.disconnected(path)

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False

    # -- Endpoint and ClientLink ------------------------------------------------------------------------

    def reply(self, path: FiveTuple, data: bytes) -> None:
        if self._transport is not None and not self._congested:
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
        self._tls = tls
        self._idle_seconds = idle_seconds
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        """Starts listening; raises OSError."""
        self._server = await loop.create_server(
            self._connection,
            host,
            port,
            ssl=self._tls,
            ssl_handshake_timeout=10.0 if self._tls else None,
            reuse_address=True,
            backlog=1024,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close_idle(self, has_allocation: Callable[[FiveTuple], bool]) -> None:
        """Closes streams that hold no allocation and have been silent for too long."""
        too_long = self.driver.clock() - self._idle_seconds
        for connection in list(self.connections):
            path = connection.path
            if path is not None and connection.idle_since < too_long and not has_allocation(path):
                connection.abort()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    def _connection(self) -> StreamConnection:
        return StreamConnection(self)
