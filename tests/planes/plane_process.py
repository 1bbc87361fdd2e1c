"""A kernel plane without a core: one channel, granted for as long as the test says.

    plane_process.py SERVER RELAY CLIENT CLIENT_PORT PEER PEER_PORT LIFETIME

Prints the relayed port. SIGUSR1 has userspace carry the channel, SIGUSR2 the kernel again.
"""

import asyncio
import signal
import sys
import time

from stunwire import AddressFamily, TransportAddress
from turnrelay.core.addresses import ClientAddress, FiveTuple, PeerAddress, ServerAddress, Transport
from turnrelay.core.outputs import ChannelFlow
from turnrelay.policy.bandwidth import BandwidthLimits
from turnrelay.relay.kernel.attachments import attach_kernel_plane
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.plane import RelayHost
from turnrelay.relay.userspace import UserspacePlane
from turnrelay.transports.udp import UdpListener

CHANNEL = 0x4001


class _Driver:
    """What a listener and a plane ask of the driver; there are no requests to answer."""

    clock = staticmethod(time.monotonic)
    mover = None

    def __init__(self) -> None:
        self.listener: UdpListener | None = None

    def add_udp(self, address: ServerAddress, endpoint: UdpListener) -> None:
        self.listener = endpoint

    def link(self, path: FiveTuple) -> object:
        assert self.listener is not None
        return self.listener.link(path)

    def release(self, path: FiveTuple) -> None:
        pass


async def main() -> None:
    server, relay_host, client, client_port, peer, peer_port, lifetime = sys.argv[1:]
    loop, driver = asyncio.get_running_loop(), _Driver()
    UdpListener(loop, driver, server, 3478)
    hosts, ports = [RelayHost(relay_host, relay_host)], (50000, 50010)
    userspace = UserspacePlane(loop, hosts, ports, BandwidthLimits(0, 0), driver, time.monotonic)
    plane = XdpPlane(attach_kernel_plane([server, relay_host], limited=False), userspace)
    relay = plane.open("somebody", AddressFamily.IPV4, even_port=False, reserve_next=False).relay
    path = FiveTuple(
        Transport.UDP,
        ServerAddress(TransportAddress(server, 3478)),
        ClientAddress(TransportAddress(client, int(client_port))),
    )
    flow = ChannelFlow(path, relay, CHANNEL, PeerAddress(TransportAddress(peer, int(peer_port))))
    expires_at = time.monotonic() + float(lifetime)

    def to_userspace() -> None:
        plane.revoke(flow)
        userspace.grant(flow, expires_at)

    plane.grant(flow, expires_at)
    loop.add_signal_handler(signal.SIGUSR1, to_userspace)
    loop.add_signal_handler(signal.SIGUSR2, plane.grant, flow, expires_at)
    print(relay.port, flush=True)
    await asyncio.sleep(120)


asyncio.run(main())
