"""PacketMover: the C extension that moves packets of granted flows, where it was built.

The plane and the UDP listeners do the same in Python without it. It decides nothing: it looks up flows that
it was given, and hands up every packet that belongs to none and every error.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from turnrelay.core.addresses import FiveTuple, ServerAddress, Transport
from turnrelay.core.outputs import ChannelFlow, Flow, PermissionFlow
from turnrelay.core.token_bucket import BucketState, TokenBucket
from turnrelay.relay.flows import SocketAddress, client_socket_address
from turnrelay.relay.plane import Traffic
from turnrelay.relay.trains import end_trains

if TYPE_CHECKING:
    from turnrelay.relay._mover import Mover


_UDP = Transport.UDP
_Way = tuple[int, SocketAddress, tuple[BucketState, ...]]
"""The number of what a client's bytes come by, its address there, and what its packets are paid from."""


class MoverUnavailable(Exception):
    """Why packets are moved by Python alone."""


class Listener(Protocol):
    """Whose socket clients write to."""

    def receive(self, data: bytes, source: SocketAddress) -> None:
        """A datagram that belongs to no flow."""


class Stream(Protocol):
    """A client's connection, which Python reads."""

    def receive(self, frame: bytes, is_last: bool) -> None:
        """A frame that belongs to no flow, without padding; whether nothing has come behind it."""

    def break_off(self) -> None:
        """What came can be no frame: the stream is past saving."""


class Records(Protocol):
    """A connection of TLS, whose records are decrypted where its frames are taken apart."""

    def records_ended(self, reason: Exception) -> None:
        """EOFError for the client's close_notify, ssl.SSLError for what is no TLS."""

    def answer(self) -> None:
        """TLS has written something of its own."""

    def read_on(self) -> None:
        """The stream was closed while more had come."""


class Relay(Protocol):
    """Whose socket peers write to."""

    def receive(self, data: bytes, source: SocketAddress) -> None:
        """A datagram that belongs to no flow."""

    def not_sent(self, error: int, data: bytes, peer: SocketAddress) -> None:
        """Data to a peer that the system refused, with the errno. Paid for and not counted."""

    def report_errors(self) -> None:
        """The socket has an error, or its error queue something to read."""


class PacketMover:
    """Reads the sockets of listeners and relayed addresses, on this loop, and moves what is granted."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], *, may_take_trains: bool = True
    ) -> None:
        """`may_take_trains`: whether the kernel may coalesce what comes, where that pays (UDP_GRO).

        MoverUnavailable where the extension was not built.
        """
        try:
            from turnrelay.relay import _mover
        except ImportError as error:
            raise MoverUnavailable(f"its C extension was not built: {error}") from error
        self._loop = loop
        self._mover = _mover.Mover(clock, may_take_trains)
        self._may_take_trains = may_take_trains
        self._listeners: dict[ServerAddress, int] = {}
        self._streams: dict[FiveTuple, MovedStream] = {}
        loop.add_reader(self._mover.fileno(), self._mover.run)

    def close(self) -> None:
        """Nothing is moved any more; the sockets stay open, and streams may still be removed."""
        self._streams.clear()
        self._loop.remove_reader(self._mover.fileno())
        self._mover.close()

    def add_listener(self, address: ServerAddress, sock: socket.socket, listener: Listener) -> None:
        self._listeners[address] = self._add(sock, listener, True)

    def remove_listener(self, address: ServerAddress) -> None:
        self._mover.remove(self._listeners.pop(address))

    def add_stream(self, path: FiveTuple, stream: Stream) -> "MovedStream":
        """Takes apart what a client's connection brings, from now on."""
        number = self._mover.add_stream(client_socket_address(path.client), stream)
        self._streams[path] = moved = MovedStream(self._mover, number, lambda: self._streams.pop(path, None))
        return moved

    def add_relay(self, sock: socket.socket, relay: Relay) -> int:
        """The number of the relayed address, for the calls below."""
        return self._add(sock, relay, False)

    def remove_relay(self, relay: int) -> None:
        """Ends its flows too; before the socket is closed."""
        self._mover.remove(relay)

    def grant(
        self,
        relay: int,
        flow: ChannelFlow,
        peer: SocketAddress,
        expires_at: float,
        buckets: Sequence[TokenBucket],
    ) -> None:
        """Moves the channel's packets until `expires_at`; a flow that it cannot move stays with Python."""
        way = self._way_of(flow, buckets)
        if way is None:
            self._mover.revoke(relay, peer)
            return
        listener, client, states = way
        self._mover.grant(relay, listener, flow.channel, client, peer, expires_at, states)

    def revoke(self, relay: int, peer: SocketAddress) -> None:
        self._mover.revoke(relay, peer)

    def permit(
        self,
        relay: int,
        flow: PermissionFlow,
        host: SocketAddress,
        expires_at: float,
        buckets: Sequence[TokenBucket],
    ) -> None:
        """Moves what comes from the host to the client until `expires_at`, as Data indications.

        The port of `host` does not count, here and in `forbid`.
        """
        way = self._way_of(flow, buckets)
        if way is not None:
            listener, client, states = way
            self._mover.permit(relay, listener, client, host, expires_at, states)

    def forbid(self, relay: int, host: SocketAddress) -> None:
        self._mover.forbid(relay, host)

    def admit(self, relay: int, peer: SocketAddress) -> None:
        """Moves Send indications to this peer while its host is permitted here; else nothing changes."""
        self._mover.admit(relay, peer)

    def forget_admitted(self) -> None:
        """Every Send indication is for Python again."""
        self._mover.forget_admitted()

    def traffic(self, relay: int) -> Traffic:
        """What it moved through a relayed address."""
        return Traffic(*self._mover.traffic(relay))

    def drops(self) -> Counter[str]:
        """Packets not relayed, by reason."""
        return Counter(self._mover.drops())

    def _add(self, sock: socket.socket, owner: Listener | Relay, is_listener: bool) -> int:
        if not self._may_take_trains:
            end_trains(sock)
        return self._mover.add(sock.fileno(), owner, is_listener)

    def _way_of(self, flow: Flow, buckets: Sequence[TokenBucket]) -> _Way | None:
        """None for a flow that is Python's."""
        states = []
        for bucket in buckets:
            # Other buckets are spent from elsewhere too, by rules of their own.
            if type(bucket) is not TokenBucket:
                return None
            states.append(bucket.state)
        path = flow.path
        if path.transport is _UDP:
            listener = self._listeners.get(path.server)
        else:
            stream = self._streams.get(path)
            listener = None if stream is None else stream.number
        return None if listener is None else (listener, client_socket_address(path.client), tuple(states))


class MovedStream:
    """One client's connection in the mover."""

    def __init__(self, mover: "Mover", number: int, forget: "Callable[[], MovedStream | None]") -> None:
        self.number = number
        self._mover = mover
        self._forget = forget
        self.feed = mover.feeder(number)
        """Takes bytes that have come."""

    def records(
        self,
        owner: Records,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        read: Callable[..., object],
    ) -> Callable[[bytes], None]:
        """What takes the bytes of a stream that is TLS, instead of `feed`. `read` is the one of the SSLObject
        that reads from `incoming` and writes to `outgoing`."""
        return self._mover.records(self.number, owner, incoming, outgoing, read, ssl.SSLWantReadError)

    @property
    def completed_at(self) -> float:
        """When the last frame was complete."""
        return self._mover.completed_at(self.number)

    @property
    def unread(self) -> bytes:
        """The beginning of a frame that is not complete yet."""
        return self._mover.unread(self.number)

    def close(self) -> None:
        """Ends its flows; nothing is to be fed any more. Harmless after the mover's own end."""
        if self._forget() is not None:
            self._mover.remove(self.number)
