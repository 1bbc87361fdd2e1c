"""TcpRelays: relayed addresses that meet peers over TCP (RFC 6062), on any plane."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from itertools import count, islice
from typing import Protocol

from stunwire import AddressFamily, TransportAddress

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, Transport, family_of
from turnrelay.relay.flows import socket_address
from turnrelay.relay.peer_stream import PeerStream
from turnrelay.relay.plane import (
    Bandwidth,
    BandwidthPolicy,
    Neighbours,
    NoRelayAddress,
    RelayHost,
    Traffic,
)
from turnrelay.relay.ports import PortPool
from turnrelay.relay.splice import Splice, StreamEnd

_BIND_ATTEMPTS = 64
_BACKLOG = 64
_ACCEPTED_AT_ONCE = 16
_ACCEPT_PAUSE_SECONDS = 0.5
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ClientStream(StreamEnd, Protocol):
    """A client's data connection."""

    def carry(self, splice: Splice) -> None:
        """From now on what it reads is data, and goes to the splice."""


class PeerEvents(Protocol):
    """Who is told what peers do."""

    def peer_connected(self, connection_id: int) -> None: ...

    def peer_gone(self, connection_id: int) -> None: ...

    def peer_arrived(self, relay: RelayedAddress, peer: PeerAddress, arrival: int) -> None:
        """`accept(arrival, ...)` before this returns keeps the connection."""


class _Relay:
    """A relayed address: a listening socket, and whose bandwidth it spends."""

    def __init__(self, host: RelayHost, port: int, listener: socket.socket, bandwidth: Bandwidth) -> None:
        self.host = host
        self.port = port
        self.listener = listener
        self.bandwidth = bandwidth
        self.buckets = [bucket for bucket in (bandwidth.allocation, bandwidth.account) if bucket]
        self.traffic = Traffic()


class TcpRelays:
    """Listens for peers, connects to them from the same address, and carries what they and clients say."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pools: Mapping[RelayHost, PortPool],
        bandwidth: BandwidthPolicy,
        clock: Callable[[], float],
        events: PeerEvents,
        neighbours: Neighbours | None = None,
    ) -> None:
        """`pools` are those of the plane: a port relays one of UDP and TCP at a time. `neighbours` are there
        where several processes relay from the same hosts."""
        self._loop = loop
        self._pools = pools
        self._bandwidth = bandwidth
        self._clock = clock
        self._events = events
        self._neighbours = neighbours
        self._relays: dict[RelayedAddress, _Relay] = {}
        self._advertised: dict[tuple[str, int], RelayedAddress] = {}
        self._arrivals: dict[int, tuple[socket.socket, _Relay]] = {}
        self._numbers = count(1)
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._waiting: dict[int, tuple[socket.socket, _Relay]] = {}
        self._splices: dict[int, Splice] = {}
        self._streams: set[PeerStream] = set()
        self._traffic = {transport: Traffic() for transport in Transport}

    # -- relayed addresses ------------------------------------------------------------------------------

    def open(self, account: str, family: AddressFamily) -> RelayedAddress:
        """Listens on a free port; raises NoRelayAddress."""
        hosts = [host for host in self._pools if family_of(host.local) is family]
        hosts.sort(key=lambda host: self._pools[host].in_use)
        for host in hosts:
            pool = self._pools[host]
            for port in islice(pool.candidates(even=False, with_next=False), _BIND_ATTEMPTS):
                with pool.alone:
                    if not pool.is_free(port):
                        continue
                    try:
                        listener = _listen(host.local, port)
                    except OSError:
                        continue
                    return self._add(host, port, listener, account)
        raise NoRelayAddress(f"no free port for a relayed address of family {family.name}")

    def close(self, address: RelayedAddress) -> bool:
        """Ends a relayed address, whose connections have ended before; False for one that is not of TCP."""
        relay = self._relays.pop(address, None)
        if relay is None:
            return False
        self._loop.remove_reader(relay.listener)
        del self._advertised[relay.host.local, relay.port]
        # Before it is closed: from then on the port may be another process' of the relay.
        self._pools[relay.host].give_back(relay.port)
        relay.listener.close()
        # What is still on its way is not paid for: somebody else may hold the buckets from now on.
        relay.buckets.clear()
        relay.bandwidth.release()
        return True

    # -- connections, by the core's numbers -------------------------------------------------------------

    def connect(self, connection_id: int, address: RelayedAddress, peer: PeerAddress) -> None:
        """Connects from the relayed address; the events tell how it went."""
        relay = self._relays[address]
        task = self._loop.create_task(self._connect(connection_id, relay, peer))
        self._connecting[connection_id] = task

    def accept(self, arrival: int, connection_id: int) -> None:
        self._waiting[connection_id] = self._arrivals.pop(arrival)

    def join(self, connection_id: int, client: ClientStream, path: FiveTuple) -> None:
        """The peer's connection and the client's carry each other's bytes."""
        sock, relay = self._waiting.pop(connection_id)
        peer = PeerStream(self._loop, sock, lambda: self._gone(connection_id, peer))
        self._streams.add(peer)
        traffic = (relay.traffic, self._traffic[path.transport])
        splice = Splice(client, peer, relay.buckets, traffic, self._clock)
        self._splices[connection_id] = splice
        client.carry(splice)
        peer.carry(splice)

    def close_peer(self, connection_id: int) -> None:
        """Ends a connection, whatever became of it."""
        task = self._connecting.pop(connection_id, None)
        if task is not None:
            task.cancel()
        waiting = self._waiting.pop(connection_id, None)
        if waiting is not None:
            waiting[0].close()
        splice = self._splices.pop(connection_id, None)
        if splice is not None:
            splice.end()

    def shut_down(self) -> None:
        """Closes what still has something to write."""
        for stream in list(self._streams):
            stream.abort()

    # -- figures ----------------------------------------------------------------------------------------

    def traffic(self) -> Mapping[Transport, Traffic]:
        """What was relayed since the start, by the transport of the client's data connections."""
        return self._traffic

    def traffic_of(self, address: RelayedAddress) -> Traffic | None:
        """What one relayed address relayed; None for one that is not of TCP."""
        relay = self._relays.get(address)
        return None if relay is None else relay.traffic

    # -- the inside -------------------------------------------------------------------------------------

    def _add(self, host: RelayHost, port: int, listener: socket.socket, account: str) -> RelayedAddress:
        self._pools[host].take(port, tcp=True)
        address = RelayedAddress(TransportAddress(host.advertised, port))
        relay = _Relay(host, port, listener, self._bandwidth.open(account, self._clock()))
        self._relays[address] = relay
        self._advertised[host.local, port] = address
        self._loop.add_reader(listener, self._accept, address)
        return address

    def _accept(self, address: RelayedAddress) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            relay = self._relays.get(address)
            if relay is None:
                return
            try:
                sock, source = relay.listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._pause(address, relay)
                return
            sock.setblocking(False)
            arrival = next(self._numbers)
            self._arrivals[arrival] = sock, relay
            self._events.peer_arrived(address, self._peer(source[0], source[1]), arrival)
            if self._arrivals.pop(arrival, None) is not None:
                # Refused. A reset leaves nothing behind here, however many come.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sock.close()

    def _pause(self, address: RelayedAddress, relay: _Relay) -> None:
        """Out of descriptors: a listening socket that stays readable must not busy the loop."""
        self._loop.remove_reader(relay.listener)
        self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, address, relay)

    def _resume(self, address: RelayedAddress, relay: _Relay) -> None:
        if self._relays.get(address) is relay:
            self._loop.add_reader(relay.listener, self._accept, address)

    async def _connect(self, connection_id: int, relay: _Relay, peer: PeerAddress) -> None:
        sock = None
        try:
            sock = _bound_socket(relay.host.local, relay.port)
            await self._loop.sock_connect(sock, socket_address(self._on_this_machine(peer)))
        except OSError:
            if sock is not None:
                sock.close()
            del self._connecting[connection_id]
            self._events.peer_gone(connection_id)
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            raise
        else:
            del self._connecting[connection_id]
            self._waiting[connection_id] = sock, relay
            self._events.peer_connected(connection_id)

    def _peer(self, host: str, port: int) -> PeerAddress:
        """Another relayed address of the relay is known by what it is advertised as."""
        if (host, port) not in self._advertised and self._neighbours is not None:
            host = self._neighbours.seen_from(host, port, tcp=True) or host
        return PeerAddress(self._advertised.get((host, port), TransportAddress(host, port)))

    def _on_this_machine(self, peer: PeerAddress) -> PeerAddress:
        """Of a relayed address of the relay, the local one: whatever stands between this machine and its
        public address is not asked."""
        relay = RelayedAddress(peer)
        own = self._relays.get(relay)
        if own is not None:
            return PeerAddress(TransportAddress(own.host.local, own.port))
        elsewhere = None if self._neighbours is None else self._neighbours.reach(relay, tcp=True)
        return peer if elsewhere is None else PeerAddress(TransportAddress(*elsewhere))

    def _gone(self, connection_id: int, peer: PeerStream) -> None:
        self._streams.discard(peer)
        self._events.peer_gone(connection_id)


def add_traffic(totals: dict[Transport, Traffic], parts: Mapping[Transport, Traffic]) -> None:
    for transport, part in parts.items():
        totals[transport].add(part)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket beside which connections can be made from the same port; raises OSError.

    Whoever sets SO_REUSEPORT may join a port that another program of this user has; without it the system
    says no.
    """
    with socket.create_server((host, port), family=_family(host)):
        pass
    sock = _bound_socket(host, port)
    try:
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _bound_socket(host: str, port: int) -> socket.socket:
    sock = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
