"""Tunnel: TURN over WebSocket, for clients whose network lets only HTTP out (docs/tunnel.md)."""

import asyncio
import struct
from collections.abc import Callable, Iterable

from aiohttp import WSMessage, WSMsgType, web
from stunwire import TransportAddress

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.relay.plane import Forwarder
from turnrelay.relay.send_indications import PeerKey, forward_send
from turnrelay.transports.driver import Driver, transport_address

PATH = "/v1/tunnel"
SUBPROTOCOL = "turn"

_WRITE_BUFFER = 1024 * 1024
"""Bytes a client may lag behind; then its data is dropped, as UDP would drop it, and nobody else waits."""
_ANSWER_RESERVE = 256 * 1024
_MAX_MESSAGE = 65_556
"""The longest STUN message, 20 + 65,535 bytes, and aiohttp's limit is the first size that is too large."""
_CLOSE_SECONDS = 1.0
_LAST_STUN_BYTE = 3
_FIRST_CHANNEL_BYTE, _LAST_CHANNEL_BYTE = 0x40, 0x7F
_STUN_HEADER, _CHANNEL_HEADER = 20, 4
_BINARY = 0x82  # a whole message (FIN) of opcode 2 (RFC 6455 section 5.2)
_SHORT, _LONG = 125, 65_535

ClientOf = Callable[[web.Request], str]


class TunnelConnection:
    """One client's WebSocket: an Endpoint of the driver and a ClientLink of the plane, as a stream is.

    Frames are written to the transport by `sendto`, which the data path calls and which must not wait:
    aiohttp's own way of sending is a coroutine that waits for slow readers.
    """

    padded = False
    address = None

    def __init__(self, tunnel: "Tunnel", transport: asyncio.Transport, path: FiveTuple) -> None:
        self._tunnel = tunnel
        self._driver = tunnel.driver
        self._transport = transport
        self.channels: dict[int, Forwarder] = {}
        self.admitted: dict[PeerKey, Forwarder] = {}
        self.path = path
        self.idle_since = tunnel.driver.clock()

    def receive(self, message: bytes) -> bool:
        """One WebSocket message. False for what is neither STUN nor ChannelData, whole and alone."""
        if len(message) < _CHANNEL_HEADER:
            return False
        first, length = message[0], message[2] << 8 | message[3]
        now = self._driver.clock()
        if first <= _LAST_STUN_BYTE:
            if len(message) != _STUN_HEADER + length:
                return False
            view = memoryview(message)
            if not self.admitted or not forward_send(view, len(message), self.admitted, now):
                self._driver.receive(message, self.path)
        elif _FIRST_CHANNEL_BYTE <= first <= _LAST_CHANNEL_BYTE:
            # Padding is not needed here, and harmless (RFC 8656 section 12.5).
            if not 0 <= len(message) - _CHANNEL_HEADER - length <= 3:
                return False
            forwarder = self.channels.get(first << 8 | message[1])
            if forwarder is None:
                self._tunnel.unbound += 1
            else:
                forwarder.forward(memoryview(message)[_CHANNEL_HEADER : _CHANNEL_HEADER + length], now)
        else:
            return False
        self.idle_since = now
        return True

    # -- Endpoint and ClientLink ------------------------------------------------------------------------

    def reply(self, path: FiveTuple, data: bytes) -> None:
        """Answers go out even where data is dropped, since over a stream nobody asks twice. A client that
        reads nothing and still asks has its connection closed."""
        if self._transport.get_write_buffer_size() > _WRITE_BUFFER + _ANSWER_RESERVE:
            self.abort()
        elif not self._transport.is_closing():
            self._transport.write(_message(data))

    def link(self, path: FiveTuple) -> "TunnelConnection":
        return self

    def release(self, path: FiveTuple) -> None:
        self.channels.clear()
        self.admitted.clear()

    def sendto(self, frame: memoryview, address: object, /) -> int:
        if self._transport.is_closing() or self._transport.get_write_buffer_size() > _WRITE_BUFFER:
            raise BlockingIOError
        self._transport.write(_message(frame))
        return len(frame)

    def abort(self) -> None:
        self._transport.abort()


class Tunnel:
    """The route, and the clients that came by it."""

    def __init__(
        self,
        driver: Driver,
        limits: ConnectionLimits | None,
        idle_seconds: float,
        client_of: ClientOf,
    ) -> None:
        """Without `limits` the connections are counted where they are accepted. `client_of` tells the address
        of the client of a request, behind reverse proxies that are trusted too."""
        self.driver = driver
        self.connections: set[TunnelConnection] = set()
        self.refused = 0
        self.broken = 0
        self.unbound = 0
        self._limits = limits
        self._client_of = client_of
        self._idle_seconds = idle_seconds

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.get(PATH, self._serve),)

    async def close(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        if transport is None or not peer:
            raise web.HTTPBadRequest(text="the connection is gone")
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), compress=False, max_msg_size=_MAX_MESSAGE, timeout=_CLOSE_SECONDS
        )
        if not _asks_for_turn(socket, request):
            raise web.HTTPUpgradeRequired(
                text=f"this is TURN over WebSocket: upgrade, with the subprotocol {SUBPROTOCOL}",
                headers={"Upgrade": "websocket", "Connection": "Upgrade"},
            )
        place = None
        if self._limits is not None:
            place = self._limits.admit(self._client_of(request))
            if place is None:
                self.refused += 1
                raise web.HTTPServiceUnavailable(text="too many connections", headers={"Retry-After": "60"})
        try:
            await socket.prepare(request)
            await self._carry(socket, transport, self._client_of(request))
        finally:
            if place is not None:
                place.leave()
        return socket

    async def _carry(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, client_host: str
    ) -> None:
        connection = TunnelConnection(self, transport, self._path(transport, client_host))
        self.connections.add(connection)
        self.driver.add_stream(connection.path, connection)
        watch = asyncio.create_task(self._close_when_idle(connection))
        try:
            await self._read(socket, connection)
        finally:
            watch.cancel()
            self.connections.discard(connection)
            self.driver.disconnected(connection.path)

    def _path(self, transport: asyncio.Transport, client_host: str) -> FiveTuple:
        """Behind a reverse proxy the client's own address with the port of the proxy's connection."""
        server = ServerAddress(transport_address(transport.get_extra_info("sockname")))
        proxy = ClientAddress(transport_address(transport.get_extra_info("peername")))
        direct = FiveTuple(Transport.WEBSOCKET, server, proxy)
        if client_host == proxy.host.partition("%")[0]:
            return direct
        path = direct._replace(client=ClientAddress(TransportAddress(client_host, proxy.port)))
        # Two proxies may use one port for two connections of one host, which must not be taken for one.
        return direct if self.driver.has_stream(path) else path

    async def _read(self, socket: web.WebSocketResponse, connection: TunnelConnection) -> None:
        message: WSMessage
        async for message in socket:
            if message.type is WSMsgType.BINARY and connection.receive(message.data):
                continue
            self.broken += 1
            if message.type is WSMsgType.TEXT:
                await socket.close(code=1003, message=b"TURN is binary")
            elif message.type is WSMsgType.BINARY:
                await socket.close(code=1007, message=b"neither STUN nor ChannelData")
            return

    async def _close_when_idle(self, connection: TunnelConnection) -> None:
        """A client that holds no allocation and has been silent for too long is gone, or up to no good."""
        allocations = self.driver.server.state.allocations
        while True:
            left = connection.idle_since + self._idle_seconds - self.driver.clock()
            if left <= 0 and connection.path not in allocations:
                connection.abort()
                return
            await asyncio.sleep(left if left > 0 else self._idle_seconds)


def _asks_for_turn(socket: web.WebSocketResponse, request: web.Request) -> bool:
    try:
        return socket.can_prepare(request).protocol == SUBPROTOCOL
    except ValueError:  # a Sec-WebSocket-Key that is no ASCII
        return False


def _message(frame: bytes | memoryview) -> bytes:
    """A binary message in one frame, unmasked as a server's are (RFC 6455 section 5.2)."""
    size = len(frame)
    if size <= _SHORT:
        header = struct.pack("!BB", _BINARY, size)
    elif size <= _LONG:
        header = struct.pack("!BBH", _BINARY, 126, size)
    else:
        header = struct.pack("!BBQ", _BINARY, 127, size)
    return b"".join((header, frame))
