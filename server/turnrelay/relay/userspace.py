"""UserspacePlane: packets moved by this process, on any system."""

import asyncio
import errno
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from stunwire import AddressFamily, TransportAddress

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, Transport, family_of
from turnrelay.core.outputs import ChannelFlow, Flow, PermissionFlow
from turnrelay.relay.flows import (
    ChannelEntry,
    PermissionEntry,
    SocketAddress,
    host_address,
    socket_address,
)
from turnrelay.relay.mover import PacketMover
from turnrelay.relay.plane import (
    BandwidthPolicy,
    ClientLink,
    ClientLinks,
    Neighbours,
    NoRelayAddress,
    Opened,
    RelayHost,
    Traffic,
)
from turnrelay.relay.ports import PortPool
from turnrelay.relay.receive_drops import receive_drops
from turnrelay.relay.relay_socket import HEADROOM, RelaySocket, open_socket
from turnrelay.relay.tcp_relays import TcpRelays, add_traffic
from turnrelay.relay.trains import end_trains

_MAX_DATAGRAM = 65535
_BIND_ATTEMPTS = 64
"""Ports to try before giving up: other programs may sit on some of the range."""


class UserspacePlane:
    """Relay sockets on this process' event loop, and the flow table they look up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hosts: Sequence[RelayHost],
        ports: tuple[int, int] | Callable[[RelayHost], PortPool],
        bandwidth: BandwidthPolicy,
        links: ClientLinks,
        clock: Callable[[], float],
        mover: PacketMover | None = None,
        neighbours: Neighbours | None = None,
        tcp: TcpRelays | None = None,
    ) -> None:
        """`ports` are the first and the last one, or make the pool of a host.

        With a mover the packets between UDP clients and peers do not pass through Python.
        `neighbours` are there where several processes relay from the same hosts. What `tcp` relays is in the
        figures of this plane.
        """
        self._loop = loop
        self._links = links
        self._bandwidth = bandwidth
        self.clock = clock
        self.mover = mover
        self._neighbours = neighbours
        self._tcp = tcp
        self._advertised = frozenset(host.advertised for host in hosts)
        # Another process' relayed addresses are met at their local ones.
        self._own_hosts = self._advertised | {host.local for host in hosts if neighbours is not None}
        make_pool = ports if callable(ports) else lambda _: PortPool(*ports)
        self._pools = {host: make_pool(host) for host in hosts}
        self._turns = {
            family: deque(host for host in hosts if family_of(host.local) is family)
            for family in {family_of(host.local) for host in hosts}
        }
        self.relays: dict[RelayedAddress, RelaySocket] = {}
        self._hosts: dict[RelayedAddress, tuple[RelayHost, int]] = {}
        self._given_away: dict[RelayedAddress, tuple[RelayHost, int]] = {}
        self._paths: dict[RelayedAddress, FiveTuple] = {}
        self._relays_of: dict[FiveTuple, int] = {}
        self._ended = {transport: Traffic() for transport in Transport}
        self._drops: Counter[str] = Counter()
        self._receive_drops = 0
        """Of relayed addresses that this process has no more."""
        # One buffer serves all sockets: a packet is in it only between its arrival and its departure.
        self.buffer = bytearray(HEADROOM + _MAX_DATAGRAM + 4)
        self.view = memoryview(self.buffer)
        self.window = self.view[HEADROOM : HEADROOM + _MAX_DATAGRAM]
        self._frames: dict[int, memoryview] = {}

    # -- relayed addresses ------------------------------------------------------------------------------

    def open(self, account: str, family: AddressFamily, *, even_port: bool, reserve_next: bool) -> Opened:
        # Each host has its turn; one without a free port does not stand in the way of the others.
        turns = self._turns.get(family, deque())
        for _ in range(len(turns)):
            turns.rotate()
            opened = self._open_on(turns[0], account, even_port, reserve_next)
            if opened is not None:
                return opened
        raise NoRelayAddress(f"no free port for a relayed address of family {family.name}")

    def close(self, relay: RelayedAddress) -> None:
        if relay in self._given_away:
            host, port = self._given_away.pop(relay)
            self._pools[host].give_back(port)
            return
        if relay not in self.relays:
            return
        relay_socket = self._remove(relay)
        host, port = self._hosts.pop(relay)
        # Before it is closed: from then on the port may be another process' of the relay.
        if host in self._pools:
            self._pools[host].give_back(port)
        relay_socket.close()

    def give_away(self, relay: RelayedAddress) -> socket.socket:
        self._given_away[relay] = self._hosts.pop(relay)
        return self._remove(relay).detach()

    def take_over(self, sock: socket.socket, account: str) -> RelayedAddress:
        sock.setblocking(False)
        local, port = sock.getsockname()[:2]
        [host] = [host for host in self._pools if host.local == local]
        self._pools[host].take(port)
        return self._go_on_with(host, port, sock, account).advertised

    def adopt(self, sock: socket.socket, relay: RelayedAddress, account: str) -> RelaySocket:
        """Goes on with a relayed address that another process of this relay had open. Its host may be one
        on which nothing is opened any more."""
        local, port = sock.getsockname()[:2]
        host = RelayHost(local, relay.host)
        if host in self._pools:
            self._pools[host].adopt(port)
        return self._go_on_with(host, port, sock, account)

    def forget(self, relay: RelayedAddress) -> None:
        """Another process goes on with the relayed address, whose socket lives on there."""
        self.close(relay)

    def use_neighbours(self, neighbours: Neighbours | None) -> None:
        """Other processes of this relay have relayed addresses from now on."""
        self._neighbours = neighbours

    def local_address(self, relay: RelayedAddress) -> TransportAddress | None:
        """What the relayed address is on this machine, None if it is not open."""
        if relay not in self._hosts:
            return None
        host, port = self._hosts[relay]
        return TransportAddress(host.local, port)

    def address_on_this_machine(self, relay: RelayedAddress) -> TransportAddress | None:
        """The same, also for a relayed address that another process of the relay has open."""
        elsewhere = self.reach_neighbour(relay)
        return self.local_address(relay) if elsewhere is None else TransportAddress(*elsewhere)

    # -- flows ------------------------------------------------------------------------------------------

    def grant(self, flow: Flow, expires_at: float) -> None:
        relay = self.relays.get(flow.relay)
        if relay is None:
            return
        link = relay.link or self._connect(relay, flow.path)
        if link is None:
            return
        if isinstance(flow, PermissionFlow):
            self._permit(relay, flow, expires_at)
            return
        # A peer that is a relayed address of ours was admitted as such, and is reached in no other way.
        to_relay_of_ours = self._is_ours(flow.peer)
        entry = ChannelEntry(relay, link, flow.channel, flow.peer, to_relay_of_ours, expires_at)
        relay.channels[entry.peer_address] = link.channels[flow.channel] = entry
        if self.mover is not None and relay.number is not None:
            if to_relay_of_ours:
                self.mover.revoke(relay.number, entry.peer_address)
            else:
                self.mover.grant(relay.number, flow, entry.peer_address, expires_at, relay.buckets)

    def revoke(self, flow: Flow) -> None:
        relay = self.relays.get(flow.relay)
        if relay is None:
            return
        if isinstance(flow, ChannelFlow):
            peer = socket_address(flow.peer)
            relay.channels.pop(peer, None)
            if self.mover is not None and relay.number is not None:
                self.mover.revoke(relay.number, peer)
            if relay.link is not None:
                relay.link.channels.pop(flow.channel, None)
            return
        permission = relay.permissions.pop(flow.peer_host, None)
        if permission is None or relay.link is None:
            return
        permission.forget_admitted(relay.link)
        if self.mover is not None and relay.number is not None:
            self.mover.forbid(relay.number, host_address(flow.peer_host))

    def send(self, relay: RelayedAddress, peer: PeerAddress, data: bytes, dont_fragment: bool) -> None:
        relay_socket = self.relays.get(relay)
        if relay_socket is None:
            return
        if relay_socket.link is None:
            return
        now = self.clock()
        if self._is_ours(peer):
            relay_socket.hairpin(peer, data, now)
        elif dont_fragment:
            relay_socket.send_unfragmented(data, socket_address(peer), now)
        else:
            self._admit(relay_socket, peer)
            relay_socket.send(data, socket_address(peer), now)

    def forget_admitted(self) -> None:
        for relay in self.relays.values():
            if relay.link is not None:
                for permission in relay.permissions.values():
                    permission.forget_admitted(relay.link)
        if self.mover is not None:
            self.mover.forget_admitted()

    # -- figures ----------------------------------------------------------------------------------------

    def traffic(self) -> dict[Transport, Traffic]:
        totals = {
            transport: Traffic(
                ended.packets_to_peer, ended.bytes_to_peer, ended.packets_from_peer, ended.bytes_from_peer
            )
            for transport, ended in self._ended.items()
        }
        for relay, path in self._paths.items():
            totals[path.transport].add(self.relays[relay].traffic)
        if self._tcp is not None:
            add_traffic(totals, self._tcp.traffic())
        return totals

    def traffic_by_plane(self) -> dict[str, dict[Transport, Traffic]]:
        return {"userspace": self.traffic()}

    def traffic_of(self, relay: RelayedAddress) -> Traffic:
        traffic = Traffic()
        if relay in self.relays:
            traffic.add(self.relays[relay].traffic)
            traffic.add(self.relays[relay].earlier_traffic)
        tcp = None if self._tcp is None else self._tcp.traffic_of(relay)
        if tcp is not None:
            traffic.add(tcp)
        return traffic

    def drops(self) -> dict[str, int]:
        return dict(self._drops if self.mover is None else self._drops + self.mover.drops())

    def receive_drops(self) -> int:
        return self._receive_drops + sum(relay.receive_drops() for relay in self.relays.values())

    def ports(self) -> Iterable[tuple[int, int]]:
        return [(pool.in_use, pool.capacity) for pool in self._pools.values()]

    def count_drop(self, reason: str) -> None:
        self._drops[reason] += 1

    # -- for the sockets --------------------------------------------------------------------------------

    def pad(self, end: int) -> int:
        """The end rounded up to four bytes, zeros between: stale bytes there would be another client's."""
        padded = HEADROOM + (end - HEADROOM + 3 & ~3)
        self.buffer[end:padded] = bytes(padded - end)
        return padded

    def channel_frame(self, size: int) -> memoryview:
        """The part of the buffer with a channel header and `size` bytes behind it. Slices are made once."""
        frame = self._frames.get(size)
        if frame is None:
            frame = self._frames[size] = self.view[HEADROOM - 4 : HEADROOM + size]
        return frame

    @staticmethod
    def source_of(relay: RelaySocket) -> SocketAddress:
        """What a peer would see as the source of this relay's packets."""
        return socket_address(PeerAddress(relay.advertised))

    def watch_again(self, relay: RelaySocket) -> None:
        """Reads on after an error: uvloop stops watching a descriptor that epoll reports an error of."""
        if self.mover is None and self.relays.get(relay.advertised) is relay:
            self._loop.remove_reader(relay.sock)
            self._loop.call_soon(self._watch, relay)

    def reach_neighbour(self, relay: RelayedAddress) -> tuple[str, int] | None:
        """Where another process of the relay has this relayed address, None if none has."""
        return None if self._neighbours is None else self._neighbours.reach(relay)

    def as_peer(self, source: SocketAddress) -> SocketAddress:
        """The peer that a packet is from: another process' packets come from its local address."""
        host = None if self._neighbours is None else self._neighbours.seen_from(source[0], source[1])
        return source if host is None else (host, *source[1:])

    # -- the inside -------------------------------------------------------------------------------------

    def _permit(self, relay: RelaySocket, flow: PermissionFlow, expires_at: float) -> None:
        permission = relay.permissions.get(flow.peer_host)
        if permission is None:
            relay.permissions[flow.peer_host] = PermissionEntry(expires_at)
        else:
            permission.expires_at = expires_at
        # Whose packets may be those of a relayed address, of another process perhaps, is for Python to tell.
        if self.mover is not None and relay.number is not None and flow.peer_host not in self._own_hosts:
            host = host_address(flow.peer_host)
            self.mover.permit(relay.number, flow, host, expires_at, relay.buckets)

    def _admit(self, relay: RelaySocket, peer: PeerAddress) -> None:
        """What goes to relayed addresses is Python's: they come and go."""
        permission = relay.permissions.get(peer.host)
        if permission is None or relay.link is None or peer.host in self._advertised:
            return
        if permission.admit(relay, relay.link, peer) and self.mover is not None and relay.number is not None:
            self.mover.admit(relay.number, socket_address(peer))

    def _is_ours(self, peer: PeerAddress) -> bool:
        """Whether a peer is a relayed address of this relay, in whichever process."""
        relay = RelayedAddress(peer)
        return relay in self.relays or self.reach_neighbour(relay) is not None

    def _open_on(self, host: RelayHost, account: str, even_port: bool, reserve_next: bool) -> Opened | None:
        pool = self._pools[host]
        for port in islice(pool.candidates(even_port, reserve_next), _BIND_ATTEMPTS):
            try:
                relay = self._open_port(host, pool, port, account)
            except OSError:
                continue
            if not reserve_next:
                return Opened(relay, None)
            try:
                return Opened(relay, self._open_port(host, pool, port + 1, account))
            except OSError:
                self.close(relay)
        return None

    def _open_port(self, host: RelayHost, pool: PortPool, port: int, account: str) -> RelayedAddress:
        """Raises OSError."""
        with pool.alone:
            if not pool.is_free(port):
                raise OSError(errno.EADDRINUSE, "another process has it")
            sock = open_socket(host.local, port)
            pool.take(port)
            return self._add(host, port, sock, account).advertised

    def _add(self, host: RelayHost, port: int, sock: socket.socket, account: str) -> RelaySocket:
        advertised = RelayedAddress(TransportAddress(host.advertised, port))
        relay = RelaySocket(self, sock, advertised, account, self._bandwidth.open(account, self.clock()))
        self.relays[advertised] = relay
        self._hosts[advertised] = (host, port)
        if self.mover is not None:
            relay.number = self.mover.add_relay(sock, relay)
        else:
            end_trains(sock)
            self._loop.add_reader(sock, relay.readable)
        return relay

    def _go_on_with(self, host: RelayHost, port: int, sock: socket.socket, account: str) -> RelaySocket:
        relay = self._add(host, port, sock, account)
        relay.earlier_drops = receive_drops(sock)
        return relay

    def _remove(self, relay: RelayedAddress) -> RelaySocket:
        """Nothing reads it any more."""
        relay_socket = self.relays.pop(relay)
        self._receive_drops += relay_socket.receive_drops()
        path = self._paths.pop(relay, None)
        if path is not None:
            self._end_client(path, relay_socket)
        if self.mover is not None and relay_socket.number is not None:
            self.mover.remove_relay(relay_socket.number)
        else:
            self._loop.remove_reader(relay_socket.sock)
        return relay_socket

    def _watch(self, relay: RelaySocket) -> None:
        if self.relays.get(relay.advertised) is relay:
            self._loop.add_reader(relay.sock, relay.readable)

    def _connect(self, relay: RelaySocket, path: FiveTuple) -> ClientLink | None:
        """Ties a relayed address to its client, at the first grant; None if that one is gone."""
        relay.link = link = self._links.link(path)
        if link is not None:
            self._paths[relay.advertised] = path
            self._relays_of[path] = self._relays_of.get(path, 0) + 1
        return link

    def _end_client(self, path: FiveTuple, relay: RelaySocket) -> None:
        self._ended[path.transport].add(relay.traffic)
        assert relay.link is not None
        for entry in relay.channels.values():
            relay.link.channels.pop(entry.channel, None)
        for permission in relay.permissions.values():
            permission.forget_admitted(relay.link)
        self._relays_of[path] -= 1
        if not self._relays_of[path]:
            del self._relays_of[path]
            self._links.release(path)
