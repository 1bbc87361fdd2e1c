"""A core, its driver, a userspace plane and listeners on loopback; allocations are just there."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from stunwire import AddressFamily, StreamFramer, TransportAddress
from turnrelay.core.addresses import (
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
)
from turnrelay.core.allocation import Allocation, Relay
from turnrelay.core.events import Event
from turnrelay.core.limits import Limits
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.outputs import Output
from turnrelay.core.protocols import Credential
from turnrelay.core.server import Server
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.relay.mover import PacketMover
from turnrelay.relay.plane import RelayHost
from turnrelay.relay.userspace import UserspacePlane
from turnrelay.transports.driver import Driver
from turnrelay.transports.stream import StreamListener
from turnrelay.transports.udp import UdpListener
from unit.core.conftest import FEATURES, FakeLease, FakePeers, FakeQuotas, FakeRateLimit
from unit.relay.loopback import V4, V6, Clock, FakeBandwidthPolicy, Peer, free_ports, until
from unit.relay.tls_end import TlsEnd

IPV4, IPV6 = AddressFamily.IPV4, AddressFamily.IPV6
NEAR, FAR = "127.0.0.2", "127.0.0.3"
"""Hosts of peers; that of the relayed addresses is another."""
ADVERTISED_V6 = "2001:db8::1"
"""As there is one address on the IPv6 loopback, the relay calls itself otherwise there."""
LIMITS = Limits()


class AskingPlane(UserspacePlane):
    """What the core says of one Send indication counts for that one alone."""

    def send(self, relay: RelayedAddress, peer: PeerAddress, data: bytes, dont_fragment: bool) -> None:
        super().send(relay, peer, data, dont_fragment)
        self.forget_admitted()


class StreamEnd:
    """A client on TCP."""

    transport = Transport.TCP

    def __init__(self, server: TransportAddress) -> None:
        self.sock = socket.create_connection(tuple(server), timeout=2)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._framer = StreamFramer()

    @property
    def address(self) -> TransportAddress:
        return TransportAddress(*self.sock.getsockname()[:2])

    def send(self, data: bytes, _to: TransportAddress) -> None:
        self.sock.sendall(data)

    def heard(self) -> list[bytes]:
        try:
            return self._framer.feed(self.sock.recv(1 << 20))
        except BlockingIOError:
            return []


class DatagramEnd(Peer):
    """A client on UDP, or a peer."""

    transport = Transport.UDP

    def heard(self) -> list[bytes]:
        found = []
        try:
            while True:
                found.append(self.sock.recv(65536))
        except BlockingIOError:
            return found


End = DatagramEnd | StreamEnd | TlsEnd


class CoreRig:
    """`way`: "core" asks the core about each Send indication, "python" and "c" move those that they may."""

    def __init__(
        self, way: str, bandwidth: FakeBandwidthPolicy | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock, self.events = Clock(), list[Event]()
        self.policy = FakePeers()
        nonces = NonceAuthority((b"the nonce key",), 3600, FEATURES)
        self.server = Server(
            realm="example.org",
            nonces=nonces,
            peers=self.policy,
            quotas=FakeQuotas(),
            rate_limit=FakeRateLimit(),
            families=frozenset({IPV4, IPV6}),
        )
        self.mover = PacketMover(loop, self.clock) if way == "c" else None
        nobody: Any = None
        self.driver = Driver(
            self.server, nobody, loop, self.clock, self.clock, [self.events.append], mover=self.mover
        )
        self.asked = 0
        """Messages that came to the core."""
        receive = self.server.receive
        self.server.receive = lambda *message: self._count(receive(*message))  # type: ignore[method-assign]
        make = AskingPlane if way == "core" else UserspacePlane
        hosts = [RelayHost(V4, V4), RelayHost(V6, ADVERTISED_V6)]
        self.bandwidth = bandwidth or FakeBandwidthPolicy()
        ports = free_ports(V4, 20)
        self.plane = make(loop, hosts, ports, self.bandwidth, self.driver, self.clock, self.mover)
        self.driver.use_plane(self.plane)
        self.listeners = {host: UdpListener(loop, self.driver, host, 0) for host in (V4, V6)}
        self.streams = StreamListener(self.driver, ConnectionLimits(9, 9), 1e9, tls)
        self.streams.open(loop, V4, 0)
        self._ends: list[End] = []

    def _count(self, outputs: list[Output]) -> list[Output]:
        self.asked += 1
        return outputs

    def end(self, host: str = V4) -> DatagramEnd:
        self._ends.append(DatagramEnd(host))
        return self._ends[-1]

    async def stream(self) -> StreamEnd:
        client = StreamEnd(self.streams_address)
        self._ends.append(client)
        await until(lambda: self.driver.has_stream(self.path(client)))
        return client

    async def tls_stream(self, context: ssl.SSLContext) -> TlsEnd:
        client = TlsEnd(self.streams_address, context)
        self._ends.append(client)
        await client.shake_hands()
        await until(lambda: self.driver.has_stream(self.path(client)))
        return client

    @property
    def streams_address(self) -> TransportAddress:
        return TransportAddress(V4, self.streams.acceptor.port)

    def server_of(self, client: End) -> ServerAddress:
        if client.transport is not Transport.UDP:
            return ServerAddress(self.streams_address)
        return self.listeners[client.address.host].address

    def path(self, client: End) -> FiveTuple:
        return FiveTuple(client.transport, self.server_of(client), ClientAddress(client.address))

    def say(self, client: End, message: bytes) -> None:
        client.send(message, self.server_of(client))

    # -- what requests would do -------------------------------------------------------------------------

    def allocate(self, client: End, account: str = "alice") -> Allocation:
        return self.allocate_on(self.path(client), account)

    def allocate_on(self, path: FiveTuple, account: str = "alice") -> Allocation:
        state = self.server.state
        relays = {}
        for family in (IPV4, IPV6):
            address = self.plane.open(account, family, even_port=False, reserve_next=False).relay
            relays[family] = Relay(address, 1e12)
        credential = Credential(account, account, {})
        lease = FakeLease(account, path.client.host)
        allocation = Allocation(state.new_id(), path, credential, relays, lease, LIMITS, self.clock.now)
        state.allocations[path] = allocation
        state.by_relay.update({relay.address: allocation for relay in relays.values()})
        return allocation

    def permit(self, client: End, *peers: TransportAddress) -> None:
        addresses = [PeerAddress(peer) for peer in peers]
        self._grant(self.path(client), lambda a: a.permit(addresses, lambda _: None, LIMITS, self.clock.now))

    def bind(self, client: End, channel: int, peer: TransportAddress) -> None:
        self.bind_on(self.path(client), channel, peer)

    def bind_on(self, path: FiveTuple, channel: int, peer: TransportAddress) -> None:
        address = PeerAddress(peer)
        self._grant(path, lambda a: a.bind(channel, address, lambda _: None, LIMITS, self.clock.now))

    def _grant(self, path: FiveTuple, how: Callable[[Allocation], list[Output]]) -> None:
        allocation = self.server.state.allocations[path]
        self.driver.carry_out(how(allocation))
        self.server.state.deadlines.schedule(allocation, allocation.next_expiry())

    def release(self, client: End) -> None:
        self.driver.end(self.server.state.allocations[self.path(client)].allocation_id)

    def relay(self, client: End, family: AddressFamily = IPV4) -> TransportAddress:
        """The relayed address of a client as peers on this machine reach it."""
        relays = self.server.state.allocations[self.path(client)].relays
        local = self.plane.local_address(relays[family].address)
        assert local is not None
        return local

    def deny(self, peer: TransportAddress, denied: bool = True) -> None:
        """The operator's word on a peer changes, and the plane is told as the server does it."""
        (self.policy.denied.add if denied else self.policy.denied.discard)(PeerAddress(peer))
        self.plane.forget_admitted()

    def close(self) -> None:
        """The second call does nothing."""
        if not self.listeners:
            return
        self.driver.carry_out(self.server.shut_down(self.clock.now))
        self.streams.close()
        for listener in self.listeners.values():
            listener.close()
        self.listeners.clear()
        if self.mover is not None:
            self.mover.close()
        for end in self._ends:
            end.sock.close()
