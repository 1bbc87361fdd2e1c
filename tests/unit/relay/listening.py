"""A listener and a userspace plane on loopback, between clients and peers that are sockets."""

import asyncio
import struct
from collections.abc import Callable

from stunwire import AddressFamily, TransportAddress
from turnrelay.core.addresses import (
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
)
from turnrelay.core.outputs import ChannelFlow, PermissionFlow
from turnrelay.relay.mover import PacketMover
from turnrelay.relay.plane import RelayHost, Traffic
from turnrelay.relay.userspace import UserspacePlane
from turnrelay.transports.udp import UdpListener
from unit.relay.loopback import V4, V6, Clock, FakeBandwidthPolicy, Peer, free_ports

CHANNEL = 0x4001
FOREVER = 1e12
_FAMILIES = {V4: AddressFamily.IPV4, V6: AddressFamily.IPV6}


class Driver:
    """What a listener asks of the driver: the STUN of clients goes to `stun`."""

    def __init__(self, clock: Clock, mover: PacketMover | None) -> None:
        self.clock = clock
        self.mover = mover
        self.listeners: dict[ServerAddress, UdpListener] = {}
        self.messages: list[tuple[bytes, FiveTuple]] = []
        self.on_message: Callable[[], None] = lambda: None

    def add_udp(self, address, endpoint):
        self.listeners[address] = endpoint

    def remove_udp(self, address):
        del self.listeners[address]

    def link(self, path):
        return self.listeners[path.server].link(path)

    def release(self, path):
        self.listeners[path.server].release(path)

    def receive(self, data, path):
        self.messages.append((data, path))
        self.on_message()


class Rig:
    """A listener and a plane on one loopback address."""

    def __init__(
        self, mover: str, host: str, bandwidth: FakeBandwidthPolicy, *, may_take_trains: bool = True
    ) -> None:
        loop = asyncio.get_running_loop()
        self.host, self.clock, self.bandwidth = host, Clock(), bandwidth
        self.mover = None
        if mover == "c":
            self.mover = PacketMover(loop, self.clock, may_take_trains=may_take_trains)
        self.driver = Driver(self.clock, self.mover)
        self.listener = UdpListener(loop, self.driver, host, 0)
        ports = free_ports(host, 20)
        self.plane = UserspacePlane(
            loop, [RelayHost(host, host)], ports, bandwidth, self.driver, self.clock, self.mover
        )
        self.ends: list[Peer] = []

    def end(self) -> Peer:
        """A client or a peer."""
        self.ends.append(Peer(self.host))
        return self.ends[-1]

    def open(self, account: str = "alice") -> RelayedAddress:
        return self.plane.open(account, _FAMILIES[self.host], even_port=False, reserve_next=False).relay

    def path(self, client: Peer) -> FiveTuple:
        return FiveTuple(Transport.UDP, self.listener.address, ClientAddress(client.address))

    def bind(self, client, relay, peer, channel=CHANNEL, expires_at=FOREVER) -> ChannelFlow:
        peer = peer if isinstance(peer, TransportAddress) else peer.address
        flow = ChannelFlow(self.path(client), relay, channel, PeerAddress(peer))
        self.plane.grant(PermissionFlow(flow.path, relay, flow.peer.host), FOREVER)
        self.plane.grant(flow, expires_at)
        return flow

    def send(self, client: Peer, data: bytes, channel: int = CHANNEL) -> None:
        client.send(frame(channel, data), self.listener.address)

    def traffic(self) -> Traffic:
        return self.plane.traffic()[Transport.UDP]

    def close(self) -> None:
        for relay in list(self.plane.relays):
            self.plane.close(relay)
        if self.driver.listeners:
            self.listener.close()
        if self.mover is not None:
            self.mover.close()
        for end in self.ends:
            end.sock.close()


def frame(channel: int, data: bytes) -> bytes:
    return struct.pack("!HH", channel, len(data)) + data
