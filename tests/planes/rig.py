"""Rig: the programs and maps in the kernel, attached to nothing, with flows that XdpPlane installed."""

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from planes.bpf_run import run_program
from planes.frames import NEXT_MAC, OUR_MAC, Frame
from stunwire import TransportAddress
from turnrelay.core.addresses import (
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
)
from turnrelay.core.outputs import ChannelFlow
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.policy.bandwidth import BandwidthLimits
from turnrelay.relay.kernel.buckets import KernelBandwidth
from turnrelay.relay.kernel.kernel_object import GENERIC, INGRESS, NATIVE, KernelObject
from turnrelay.relay.kernel.layouts import (
    HOP_TAKES_FRAMES,
    REFRESH_NS,
    VALID_NS,
    Hop,
    Link,
    LinkKey,
    Mac,
    leg_key,
    link_key,
)
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.plane import Traffic

PROGRAMS = (NATIVE, GENERIC, INGRESS)
HERE = 1
"""The index of the loopback device, on which test runs come in."""
ELSEWHERE = 77
PASS, DROP, RELAY = "pass", "drop", "relay"
_XDP_VERDICTS = {1: DROP, 2: PASS, 3: RELAY, 4: RELAY}
_TCX_VERDICTS = {-1: PASS, 2: DROP, 7: RELAY}

CLIENTS = {4: TransportAddress("198.51.100.7", 40000), 6: TransportAddress("2001:db8:c::7", 40000)}
SERVERS = {4: TransportAddress("192.0.2.1", 3478), 6: TransportAddress("2001:db8:a::1", 3478)}
RELAYS = {4: TransportAddress("192.0.2.1", 50000), 6: TransportAddress("2001:db8:a::1", 50000)}
PEERS = {4: TransportAddress("203.0.113.9", 9000), 6: TransportAddress("2001:db8:b::9", 9000)}
CHANNEL = 0x4001


class _Userspace:
    """What XdpPlane asks of UserspacePlane, without its sockets."""

    def __init__(self) -> None:
        self.relays: dict[RelayedAddress, Any] = {}
        self.local: dict[RelayedAddress, TransportAddress] = {}

    def local_address(self, relay: RelayedAddress) -> TransportAddress | None:
        return self.local.get(relay)

    address_on_this_machine = local_address

    def grant(self, flow: object, expires_at: float) -> None:
        pass

    def revoke(self, flow: object) -> None:
        pass

    def close(self, relay: RelayedAddress) -> None:
        self.relays.pop(relay, None)
        self.local.pop(relay, None)

    def traffic(self) -> dict[Transport, Traffic]:
        return {transport: Traffic() for transport in Transport}

    def traffic_of(self, relay: RelayedAddress) -> Traffic:
        return Traffic()

    def drops(self) -> dict[str, int]:
        return {}


class Rig:
    """`program` is the one that packets run through."""

    def __init__(self, kernel: KernelObject, program: str) -> None:
        self.kernel = kernel
        self.program = program
        self._userspace = _Userspace()
        self.plane = XdpPlane(SimpleNamespace(kernel=kernel), self._userspace)  # type: ignore[arg-type]
        self.no_limits = BandwidthLimits(0, 0)
        self._policies: dict[BandwidthLimits, KernelBandwidth] = {}
        self._arrival_keys: list[LinkKey] = []
        self._vlans = [0]
        kernel.links.set(LinkKey(HERE), _link())
        self._before = self.plane.traffic()[Transport.UDP], self.plane.drops().get("bandwidth", 0)

    def relay(
        self,
        address: TransportAddress,
        local: TransportAddress | None = None,
        limits: BandwidthLimits | None = None,
        account: str = "somebody",
    ) -> RelayedAddress:
        """Opens a relayed address, with its bandwidth limits."""
        relayed = RelayedAddress(address)
        limits = self.no_limits if limits is None else limits
        if limits not in self._policies:
            self._policies[limits] = KernelBandwidth(limits, self.kernel.buckets, time.monotonic)
        bandwidth = self._policies[limits].open(account, time.monotonic())
        self._userspace.relays[relayed] = SimpleNamespace(link=object(), bandwidth=bandwidth)
        self._userspace.local[relayed] = local or address
        self._expect_at(local or address)
        return relayed

    def buckets(self, relay: RelayedAddress) -> tuple[TokenBucket | None, TokenBucket | None]:
        bandwidth = self._userspace.relays[relay].bandwidth
        return bandwidth.allocation, bandwidth.account

    def channel(
        self,
        relay: RelayedAddress,
        client: TransportAddress,
        server: TransportAddress,
        peer: TransportAddress,
        channel: int = CHANNEL,
        expires_in: float = 60.0,
        hop: Hop | None = None,
    ) -> ChannelFlow:
        """Binds a channel, and lets both of its legs know their next hop."""
        path = FiveTuple(Transport.UDP, ServerAddress(server), ClientAddress(client))
        flow = ChannelFlow(path, relay, channel, PeerAddress(peer))
        self._expect_at(server)
        self.plane.grant(flow, time.monotonic() + expires_in)
        self.know_hop(flow, hop or fresh_hop())
        return flow

    def join_vlan(self, vlan: int) -> None:
        """What is sent to the addresses that are used from now on may have this tag."""
        self._vlans.append(vlan)

    def _expect_at(self, address: TransportAddress) -> None:
        for vlan in self._vlans:
            key = link_key(HERE, vlan, address.host)
            self.kernel.links.set(key, _link(vlan))
            self._arrival_keys.append(key)

    def know_hop(self, flow: ChannelFlow, hop: Hop) -> None:
        leg = self.kernel.legs.get(leg_key(flow.path.client, flow.path.server, flow.channel))
        if leg is not None:
            for slot in (leg.slot, leg.slot + 1):
                self.kernel.hops.set(ctypes.c_uint32(slot), hop)

    def run(self, frame: Frame | bytes, context: bytes = b"") -> tuple[str, bytes]:
        """What becomes of the frame, and the bytes that it is then."""
        raw = frame if isinstance(frame, bytes) else frame.encode()
        result, out = run_program(self.kernel.programs[self.program], raw, context)
        verdict = (_TCX_VERDICTS if self.program == INGRESS else _XDP_VERDICTS)[result]
        if verdict == PASS:
            assert out == raw, "a packet that is passed on must be what it was"
        return verdict, out

    def relayed(self, frame: Frame, context: bytes = b"") -> Frame:
        """The frame that leaves, every checksum verified."""
        verdict, out = self.run(frame, context)
        assert verdict == RELAY
        return Frame.decode(out)

    def traffic(self) -> Traffic:
        """What was relayed since the rig was made."""
        now, before = self.plane.traffic()[Transport.UDP], self._before[0]
        return Traffic(
            now.packets_to_peer - before.packets_to_peer,
            now.bytes_to_peer - before.bytes_to_peer,
            now.packets_from_peer - before.packets_from_peer,
            now.bytes_from_peer - before.bytes_from_peer,
        )

    def drops(self) -> int:
        return self.plane.drops().get("bandwidth", 0) - self._before[1]

    def close(self) -> None:
        for relay in list(self._userspace.relays):
            self.plane.close(relay)
        for key in self._arrival_keys:
            self.kernel.links.delete(key)


def _link(vlan: int = 0) -> Link:
    return Link(HERE, vlan, 1500, Mac(*OUR_MAC), hop_flags=HOP_TAKES_FRAMES)


def fresh_hop(ifindex: int = HERE, mtu: int = 1500, vlan: int = 0, age: float = 0.0, flags: int = 1) -> Hop:
    learned = time.monotonic_ns() - int(age * 1e9)
    macs = Mac(*NEXT_MAC), Mac(*OUR_MAC)
    return Hop(learned + VALID_NS, learned + REFRESH_NS, ifindex, mtu, vlan, *macs, flags, ifindex)


@contextmanager
def rig(kernel: KernelObject, program: str) -> Iterator[Rig]:
    made = Rig(kernel, program)
    try:
        yield made
    finally:
        made.close()
