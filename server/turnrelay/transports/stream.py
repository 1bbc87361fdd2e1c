"""StreamConnection and StreamListener: TURN over TCP and TLS (RFC 8656 sections 3.1 and 12.5)."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast

from stunwire import DecodeError, StreamFramer

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.policy.connection_limits import ConnectionLimits, Place
from turnrelay.relay.mover import MovedStream
from turnrelay.relay.peer_stream import PeerStream
from turnrelay.relay.plane import Forwarder
from turnrelay.relay.send_indications import PeerKey, forward_send
from turnrelay.relay.splice import Splice
from turnrelay.transports.accepting import Acceptor
from turnrelay.transports.driver import Driver, transport_address
from turnrelay.transports.tls_connection import TlsConnection, serve_tls

_WRITE_BUFFER = 1024 * 1024
"""Bytes a client may lag behind; then its data is dropped, as UDP would drop it, and nobody else waits."""
_ANSWER_RESERVE = 256 * 1024
_LAST_STUN_BYTE = 3
_LINGER_SECONDS = 30.0


class StreamConnection(asyncio.Protocol):
    """One client's TCP or TLS connection. Whatever breaks here closes this connection and no other."""

    padded = True
    address = None

    def __init__(self, clients: "StreamClients", place: Place | None, given: "Given | None" = None) -> None:
        """`place` is None for a connection that counts elsewhere; `given` by another process."""
        self._clients = clients
        self._driver = clients.driver
        self._framer = StreamFramer()
        self._moved: MovedStream | None = None
        """What takes the stream apart instead of the framer, where there is a mover."""
        self._transport: asyncio.Transport | None = None
        self._place = place
        self._given = given
        self._congested = False
        self._has_more = False
        """Whether more was read than the message that is being worked on."""
        self.channels: dict[int, Forwarder] = {}
        self.admitted: dict[PeerKey, Forwarder] = {}
        self._splice: Splice | None = None
        self._is_passed_on = False
        """Whether the splice leads to another process of the relay."""
        self._linger: asyncio.TimerHandle | None = None
        self._early: list[bytes] = []
        """What is to be written as soon as it is connected."""
        self.path: FiveTuple | None = None
        self._idle_since = clients.driver.clock()

    # -- asyncio.Protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        path = self._path_of(transport) if self._given is None else self._given.path
        if path is None:
            self._transport.abort()  # gone already
            return
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        if self.path is None:  # not expected
            self._register(path)
        while self._early:
            self._transport.write(self._early.pop(0))
        if self._moved is not None:
            self._hand_down(self._moved)
        if self._given is not None:
            self.data_received(self._given.read)

    def _register(self, path: FiveTuple) -> None:
        self.path = path
        self._driver.add_stream(path, self)
        if self._driver.mover is not None:
            self._moved = self._driver.mover.add_stream(path, self)
        self._clients.connections.add(self)

    def _hand_down(self, moved: MovedStream) -> None:
        """From now on the event loop calls the mover itself, where it can."""
        if isinstance(self._transport, TlsConnection):
            self._transport.give_records_to(moved)
        elif self._transport is not None:
            self.data_received = moved.feed  # type: ignore[method-assign, assignment]
            self._transport.set_protocol(self)  # event loops keep the method

    def data_received(self, data: bytes) -> None:
        if self._splice is not None:
            self._splice.to_peer.feed(data)
            return
        if self.path is None:
            return
        if self._moved is not None:
            self._moved.feed(data)
            return
        try:
            frames = self._framer.feed(data)
        except DecodeError:
            self.break_off()
            return
        for frame in frames:
            self.receive(frame, frame is frames[-1] and not self._framer.holds_part)
            if self.path is None or self._splice is not None:
                return
        if frames:
            self._idle_since = self._driver.clock()
        if self._framer.failed:
            self.break_off()

    def receive(self, frame: bytes, is_last: bool) -> None:
        """A frame that no mover has moved: a STUN message, or ChannelData without its padding."""
        if self.path is None:
            return
        now = self._driver.clock()
        if frame[0] > _LAST_STUN_BYTE:
            forwarder = self.channels.get(frame[0] << 8 | frame[1])
            if forwarder is None:
                self._clients.unbound += 1
            else:
                forwarder.forward(memoryview(frame)[4:], now)
        elif not self.admitted or not forward_send(memoryview(frame), len(frame), self.admitted, now):
            self._has_more = not is_last
            self._driver.receive(frame, self.path)
            # RFC 6062 section 4.4: data follows the answer. What came before it has been taken apart.
            if self.path is not None and self._splice is not None and self._has_more:
                self.break_off()

    @property
    def idle_since(self) -> float:
        """When the last message or data was complete, or the connection began."""
        return self._idle_since if self._moved is None else max(self._idle_since, self._moved.completed_at)

    def break_off(self) -> None:
        """There is no way to find the next message in a broken stream."""
        self._clients.broken += 1
        self.abort()

    def eof_received(self) -> bool:
        """Whether the connection stays: a client that stops writing is gone, unless a peer may go on."""
        if self._splice is None or self._clients.kind is Transport.TLS:
            return False  # TLS has no end of one direction alone
        self._splice.to_peer.source_ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._place is not None:
            self._place.leave()
        if self._linger is not None:
            self._linger.cancel()
        self._clients.connections.discard(self)
        if self._is_passed_on and self._splice is not None:
            self._splice.end()
        if self.path is not None:
            path, self.path = self.path, None
            self._driver.disconnected(path)
            self._leave_mover()

    def pause_writing(self) -> None:
        self._congested = True
        if self._splice is not None:
            self._splice.to_client.set_congested(True)

    def resume_writing(self) -> None:
        self._congested = False
        if self._splice is not None:
            self._splice.to_client.set_congested(False)

    def _path_of(self, transport: asyncio.BaseTransport) -> FiveTuple | None:
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not local:
            return None
        client = ClientAddress(transport_address(peer))
        return FiveTuple(self._clients.kind, ServerAddress(transport_address(local)), client)

    # -- Endpoint and ClientLink ------------------------------------------------------------------------

    def reply(self, path: FiveTuple, data: bytes) -> None:
        """Answers go out even where data is dropped, since over a stream nobody asks twice. A client that
        reads nothing and still asks has its connection closed."""
        if self._transport is None:
            self._early.append(data)
            return
        if self._congested and self._transport.get_write_buffer_size() > _WRITE_BUFFER + _ANSWER_RESERVE:
            self.abort()
            return
        self._transport.write(data)

    def link(self, path: FiveTuple) -> "StreamConnection":
        return self

    def release(self, path: FiveTuple) -> None:
        self.channels.clear()
        self.admitted.clear()

    def sendto(self, frame: memoryview, address: object, /) -> int:
        if self._congested:
            raise BlockingIOError
        if self._transport is None:
            self._early.append(bytes(frame))
            return len(frame)
        self._transport.write(bytes(frame))  # a copy: the frame lies in a buffer that is used again
        return len(frame)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- to and from another process of this relay --------------------------------------------------------

    @property
    def is_movable(self) -> bool:
        """Whether all that there is of it are its socket and the beginning of a message."""
        transport = self._transport
        return (
            self.could_move
            and not self._framer.failed
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    @property
    def unread(self) -> bytes:
        """The beginning of a message whose end has not come."""
        return self._framer.unread if self._moved is None else self._moved.unread

    def fileno(self) -> int:
        assert self._transport is not None  # it is movable
        descriptor: int = self._transport.get_extra_info("socket").fileno()
        return descriptor

    @property
    def could_move(self) -> bool:
        """Whether it is of a kind that is movable in some moments."""
        return self.path is not None and self.path.transport is Transport.TCP and self._splice is None

    def expect(self, path: FiveTuple, unread: bytes) -> None:
        """Takes the place of a connection of another process, before it is connected itself."""
        self._register(path)
        if self._moved is None:
            self._framer.feed(unread)
        else:
            self._moved.feed(unread)

    def forget(self) -> None:
        """Another process goes on with it; what is closed here is open there."""
        if self._place is not None:
            self._place.leave()
        self._clients.connections.discard(self)
        path, self.path = self.path, None
        if path is not None:
            self._driver.forget_stream(path)
        self._leave_mover()
        self.abort()

    def _leave_mover(self) -> None:
        moved, self._moved = self._moved, None
        if moved is None:
            return
        moved.close()
        if isinstance(self._transport, TlsConnection):
            self._transport.take_records_back()
        elif self._transport is not None:
            del self.data_received
            self._transport.set_protocol(self)

    # -- a data connection (RFC 6062) -------------------------------------------------------------------

    def carry(self, splice: Splice) -> None:
        """From now on this is no STUN connection any more."""
        self._splice = splice
        self._idle_since = self._driver.clock()
        self._leave_mover()
        if self._congested:
            splice.to_client.set_congested(True)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end_writing(self) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        if self._clients.kind is Transport.TLS:
            self.finish()
            return False
        self._transport.write_eof()
        return True

    def finish(self) -> None:
        """Closes when all is written, or the client has taken too long to read it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            self._linger = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.abort)

    # -- MovableStream ----------------------------------------------------------------------------------

    def hand_over(self) -> socket.socket | None:
        """The client's own socket; with TLS, whose state stays in this process, one that leads to it."""
        transport, self.path = self._transport, None
        self._leave_mover()
        if transport is None or transport.is_closing():
            return None
        # What was read or is not yet written stays in this process.
        if self._has_more or self._framer.holds_part or transport.get_write_buffer_size():
            self.break_off()
            return None
        if self._clients.kind is Transport.TLS:
            return self._lead_on()
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        transport.abort()
        return sock

    def _lead_on(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        other = PeerStream(loop, ours, lambda: splice.end())
        splice = Splice(self, other, (), (), self._driver.clock)
        self._is_passed_on = True
        self.carry(splice)
        other.carry(splice)
        return theirs


class Given(NamedTuple):
    """What another process of the relay tells of a connection that it hands over."""

    path: FiveTuple
    read: bytes
    """What came by it and is to be answered."""


class StreamClients:
    """The connections of one kind that came to one listening address."""

    def __init__(self, driver: Driver, idle_seconds: float, kind: Transport) -> None:
        self.driver = driver
        self.kind = kind
        self.connections: set[StreamConnection] = set()
        self.broken = 0
        self.unbound = 0
        self._idle_seconds = idle_seconds

    def close_idle(self, is_in_use: Callable[[FiveTuple], bool]) -> None:
        """Closes streams that hold neither an allocation nor data, and have been silent for too long."""
        too_long = self.driver.clock() - self._idle_seconds
        for connection in list(self.connections):
            path = connection.path
            if path is not None and connection.idle_since < too_long and not is_in_use(path):
                connection.abort()

    def expect(self, path: FiveTuple, place: Place | None, unread: bytes) -> StreamConnection:
        """In the place of a TCP connection of another process of this relay, whose socket comes later."""
        connection = StreamConnection(self, place)
        connection.expect(path, unread)
        return connection

    def close(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class StreamListener:
    """One listening TCP address; TLS if it has a context."""

    def __init__(
        self, driver: Driver, limits: ConnectionLimits, idle_seconds: float, tls: ssl.SSLContext | None
    ) -> None:
        kind = Transport.TLS if tls else Transport.TCP
        self.clients = StreamClients(driver, idle_seconds, kind)
        self.acceptor = Acceptor(limits, self._welcome)
        self.tls = tls
        """For connections to come; it can be replaced."""

    def open(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, given: socket.socket | None = None
    ) -> None:
        """Starts listening; raises OSError. `given` is a listening socket that somebody else opened."""
        self.acceptor.open(loop, host, port, given)

    def close(self) -> None:
        self.acceptor.close()
        self.clients.close()

    async def _welcome(self, sock: socket.socket, place: Place) -> None:
        connection = StreamConnection(self.clients, place)
        try:
            if self.tls is not None:
                await serve_tls(sock, self.tls, connection)
            else:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except (OSError, asyncio.CancelledError):  # also a failed handshake, which is an OSError
            sock.close()
            place.leave()
