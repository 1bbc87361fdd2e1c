"""XdpPlane: the userspace plane with its UDP channels carried by the kernel."""

import ctypes
import random
import socket
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from stunwire import AddressFamily, TransportAddress

from turnrelay.core.addresses import PeerAddress, RelayedAddress, Transport
from turnrelay.core.outputs import ChannelFlow, Flow
from turnrelay.relay.kernel.attachments import Attachments
from turnrelay.relay.kernel.buckets import bucket_index
from turnrelay.relay.kernel.layouts import Leg, LegKey, Totals, family_number, leg_key, packed_address
from turnrelay.relay.kernel.share import KernelShare
from turnrelay.relay.plane import Neighbours, Opened, Traffic
from turnrelay.relay.relay_socket import RelaySocket
from turnrelay.relay.userspace import UserspacePlane

_SECOND = 1_000_000_000
_TO_PEER, _TO_CLIENT = 0, 1
_CLEANED_AT_ONCE = 64


class XdpPlane:
    """Channels of UDP clients are installed in the maps; everything else, and every packet that the programs
    do not take, goes through the userspace plane, whose sockets stay bound.

    So a flow changes planes without anybody noticing, and any failure here costs speed only.
    """

    def __init__(
        self, attachments: Attachments, userspace: UserspacePlane, share: KernelShare | None = None
    ) -> None:
        """`share` is what belongs to this plane, all of the maps where it has them to itself."""
        self._kernel = kernel = attachments.kernel
        self._share = share or KernelShare(range(0, kernel.counters.max_entries, 2), ())
        self._userspace = userspace
        self._installed: dict[ChannelFlow, tuple[LegKey, LegKey, int]] = {}
        """The keys of both legs, towards the peer first, and the slot of that one."""
        self._by_relay: defaultdict[RelayedAddress, set[ChannelFlow]] = defaultdict(set)
        self._past: defaultdict[RelayedAddress, Traffic] = defaultdict(Traffic)
        """What channels that are in the maps no longer have relayed."""
        self._used = deque(self._share.slots)
        """Free slots that may hold figures of earlier channels, perhaps another process'."""
        self._clean: list[int] = []
        """Free slots in which nothing is counted yet."""
        self._full = False
        self._late = [0] * len(Totals._fields_)
        self._standing: list[int] | None = None
        self._log = structlog.get_logger()

    # -- RelayPlane -------------------------------------------------------------------------------------

    def open(self, account: str, family: AddressFamily, *, even_port: bool, reserve_next: bool) -> Opened:
        return self._userspace.open(account, family, even_port=even_port, reserve_next=reserve_next)

    def close(self, relay: RelayedAddress) -> None:
        for flow in list(self._by_relay.get(relay, ())):
            self._remove(flow)
        self._past.pop(relay, None)
        self._userspace.close(relay)

    def give_away(self, relay: RelayedAddress) -> socket.socket:
        return self._userspace.give_away(relay)

    def take_over(self, sock: socket.socket, account: str) -> RelayedAddress:
        return self._userspace.take_over(sock, account)

    def adopt(self, sock: socket.socket, relay: RelayedAddress, account: str) -> RelaySocket:
        return self._userspace.adopt(sock, relay, account)

    def forget(self, relay: RelayedAddress) -> None:
        """Its channels stay in the maps, for as long as a program looks there."""
        for flow in self._by_relay.pop(relay, set()):
            self._used.append(self._installed.pop(flow)[2])
        self._past.pop(relay, None)
        self._userspace.forget(relay)

    def use_neighbours(self, neighbours: Neighbours | None) -> None:
        self._userspace.use_neighbours(neighbours)

    def grant(self, flow: Flow, expires_at: float) -> None:
        self._userspace.grant(flow, expires_at)
        if isinstance(flow, ChannelFlow):
            self._install(flow, int(expires_at * _SECOND))

    def revoke(self, flow: Flow) -> None:
        if isinstance(flow, ChannelFlow):
            self._remove(flow)
        self._userspace.revoke(flow)

    def send(self, relay: RelayedAddress, peer: PeerAddress, data: bytes, dont_fragment: bool) -> None:
        self._userspace.send(relay, peer, data, dont_fragment)

    def forget_admitted(self) -> None:
        self._userspace.forget_admitted()

    def traffic(self) -> dict[Transport, Traffic]:
        totals = self._userspace.traffic()
        udp, moved = totals[Transport.UDP], self._moved()
        udp.packets_to_peer += moved.packets_to_peer
        udp.bytes_to_peer += moved.bytes_to_peer
        udp.packets_from_peer += moved.packets_from_peer
        udp.bytes_from_peer += moved.bytes_from_peer
        return totals

    def traffic_by_plane(self) -> dict[str, dict[Transport, Traffic]]:
        return {**self._userspace.traffic_by_plane(), "xdp": {Transport.UDP: self._moved()}}

    def traffic_of(self, relay: RelayedAddress) -> Traffic:
        traffic = self.settled_traffic_of(relay)
        for flow in self._by_relay.get(relay, ()):
            carried = self.carried(flow)
            assert carried is not None  # _by_relay holds what is installed
            traffic.add(carried)
        return traffic

    @property
    def relays(self) -> Mapping[RelayedAddress, RelaySocket]:
        return self._userspace.relays

    def slots_of(self, relay: RelayedAddress) -> list[int]:
        """Where the channels of a relayed address are counted: towards the peer, and in the next slot towards
        the client."""
        return [self._installed[flow][2] for flow in self._by_relay.get(relay, ())]

    def settled_traffic_of(self, relay: RelayedAddress) -> Traffic:
        """What it relayed, less what is counted in those slots."""
        traffic = self._userspace.traffic_of(relay)
        if relay in self._past:
            traffic.add(self._past[relay])
        return traffic

    def count_late(self, totals: Sequence[int]) -> None:
        """Adds what was relayed by maps that no program looks at any more."""
        self._late = [before + more for before, more in zip(self._late, totals, strict=True)]

    def drops(self) -> dict[str, int]:
        drops = self._userspace.drops()
        bandwidth = self.totals()[4]
        if bandwidth:
            drops["bandwidth"] = drops.get("bandwidth", 0) + bandwidth
        if self._share.tells_totals:
            drops["device_refused"] = self._kernel.refused()
        return drops

    def receive_drops(self) -> int:
        return self._userspace.receive_drops()

    def ports(self) -> Iterable[tuple[int, int]]:
        return self._userspace.ports()

    # -- flows in the maps ------------------------------------------------------------------------------

    def carried(self, flow: ChannelFlow) -> Traffic | None:
        """What the kernel has relayed for a channel, None if it is not in its maps."""
        installed = self._installed.get(flow)
        if installed is None:
            return None
        to_peer, from_peer = (
            self._kernel.counters.sums(ctypes.c_uint32(installed[2] + direction))
            for direction in (_TO_PEER, _TO_CLIENT)
        )
        return Traffic(*to_peer, *from_peer)

    def _moved(self) -> Traffic:
        """What the kernel has relayed since the start."""
        return Traffic(*self.totals()[:4])

    def totals(self) -> list[int]:
        """The fields of `Totals` since the start."""
        return [own + late for own, late in zip(self.own_totals(), self._late, strict=True)]

    def own_totals(self) -> list[int]:
        """Those of this process' maps, where it is this process that tells them."""
        if self._standing is not None:
            return self._standing
        if not self._share.tells_totals:
            return [0] * len(Totals._fields_)
        return self._kernel.totals.sums(ctypes.c_uint32(0))

    @contextmanager
    def standing_totals(self) -> Iterator[list[int]]:
        """Those of now, for as long as it takes to write down everything that they are in."""
        self._standing = self.own_totals()
        try:
            yield self._standing
        finally:
            self._standing = None

    def _install(self, flow: ChannelFlow, expires_ns: int) -> None:
        legs = self._legs(flow)
        if legs is None:
            self._remove(flow)
            return
        installed = self._installed.get(flow)
        slot = self._slot() if installed is None else installed[2]
        if slot is None:
            return
        for direction, (key, leg) in enumerate(legs):
            leg.expires_ns = expires_ns
            leg.slot = slot + direction
            self._share.note(leg.slot, key)
        self._installed[flow] = (legs[0][0], legs[1][0], slot)
        self._by_relay[flow.relay].add(flow)
        try:
            self._kernel.legs.set_all(legs)
        except OSError as error:
            self._log.error("channel stays in userspace", error=error.strerror)
            self._remove(flow)

    def _legs(self, flow: ChannelFlow) -> list[tuple[LegKey, Leg]] | None:
        """The map entries of a channel, None if it is one for userspace."""
        local = self._userspace.local_address(flow.relay)
        relay = self._userspace.relays.get(flow.relay)
        client, server, peer = flow.path.client, flow.path.server, flow.peer
        if local is None or relay is None or relay.link is None or flow.path.transport is not Transport.UDP:
            return None
        if "%" in client.host or "%" in server.host or "%" in peer.host:
            return None  # an address that means something on one interface only
        allocation_bucket = bucket_index(relay.bandwidth.allocation)
        account_bucket = bucket_index(relay.bandwidth.account)
        if allocation_bucket is None or account_bucket is None:
            return None
        if not peer.port or not client.port:
            return None

        # A peer that is a relayed address of ours is found under the key of what this client's would send it.
        peer_relay = self._userspace.address_on_this_machine(RelayedAddress(peer))
        source, destination = (local, peer) if peer_relay is None else (flow.relay, peer_relay)
        to_peer = _leg(source, destination, 0)
        to_peer.hairpin = peer_relay is not None
        to_client = _leg(server, client, flow.channel)
        for leg in (to_peer, to_client):
            leg.allocation_bucket, leg.account_bucket = allocation_bucket, account_bucket
        return [(leg_key(client, server, flow.channel), to_peer), (leg_key(peer, local, 0), to_client)]

    def _remove(self, flow: ChannelFlow) -> None:
        carried = self.carried(flow)
        if carried is None:
            return
        self._past[flow.relay].add(carried)
        installed = self._installed.pop(flow)
        *keys, slot = installed
        for direction, key in enumerate(keys):
            self._kernel.legs.delete(key)
            self._share.note(slot + direction, None)
        flows = self._by_relay[flow.relay]
        flows.discard(flow)
        if not flows:
            del self._by_relay[flow.relay]
        self._used.append(slot)
        self._full = False

    def _slot(self) -> int | None:
        if not self._clean:
            self._clean_up()
        if self._clean:
            return self._clean.pop()
        if not self._full:
            self._full = True
            self._log.warning("the kernel plane is full, further channels stay in userspace")
        return None

    def _clean_up(self) -> None:
        """Makes some of the used slots new, with one system call a map for all of them."""
        self._clean = [self._used.popleft() for _ in range(min(len(self._used), _CLEANED_AT_ONCE))]
        if self._clean:
            numbers = [slot + direction for slot in self._clean for direction in (_TO_PEER, _TO_CLIENT)]
            self._kernel.hops.zero(numbers)
            self._kernel.counters.zero(numbers)


def _leg(source: TransportAddress, destination: TransportAddress, channel: int) -> Leg:
    return Leg(
        0,
        packed_address(source.host),
        packed_address(destination.host),
        socket.htons(source.port),
        socket.htons(destination.port),
        socket.htons(channel),
        family_number(destination.host),
        flow_label=socket.htonl(random.getrandbits(20)),
    )
