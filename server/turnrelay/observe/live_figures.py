"""LiveFigures: what is read at the moment of the scrape and kept by nobody in between."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from turnrelay.core.addresses import Transport
from turnrelay.core.server import Server
from turnrelay.core.state import Discard
from turnrelay.relay.plane import DROP_REASONS, RelayPlane, Traffic


class ClientSide(Protocol):
    """What the listeners know."""

    def discarded(self) -> dict[str, int]:
        """What clients sent that is nothing to answer, by reason."""

    def receive_drops(self) -> int:
        """Packets of clients that the kernel dropped."""


class LiveFigures(Collector):
    def __init__(self, server: Server, plane: RelayPlane, clients: ClientSide) -> None:
        self._server = server
        self._plane = plane
        self._clients = clients

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._holdings()
        yield from self._ports()
        yield from self._traffic()
        yield from self._losses()

    def _holdings(self) -> Iterator[Metric]:
        live = GaugeMetricFamily(
            "turnrelay_allocations", "Live allocations, by the client's transport.", labels=["transport"]
        )
        by_transport = dict.fromkeys(Transport, 0)
        permissions = channels = 0
        for path, allocation in self._server.state.allocations.items():
            by_transport[path.transport] += 1
            permissions += len(allocation.permissions)
            channels += allocation.bound_channels()
        for transport, count in by_transport.items():
            live.add_metric([transport.value], count)
        yield live
        yield GaugeMetricFamily("turnrelay_permissions", "Live permissions.", permissions)
        yield GaugeMetricFamily("turnrelay_channels", "Live channel bindings.", channels)

    def _ports(self) -> Iterator[Metric]:
        in_use = capacity = 0
        for used, size in self._plane.ports():
            in_use += used
            capacity += size
        yield GaugeMetricFamily("turnrelay_relay_ports_in_use", "Relay ports in use or reserved.", in_use)
        yield GaugeMetricFamily("turnrelay_relay_ports", "Relay ports there are.", capacity)

    def _traffic(self) -> Iterator[Metric]:
        labels = ["direction", "transport", "plane"]
        packets = CounterMetricFamily(
            "turnrelay_relayed_packets",
            "Application packets relayed, by the client's transport and the plane that moved them.",
            labels=labels,
        )
        size = CounterMetricFamily(
            "turnrelay_relayed_bytes", "Application bytes relayed, headers not counted.", labels=labels
        )
        for plane, transport, traffic in self._moved():
            packets.add_metric(["to_peer", transport, plane], traffic.packets_to_peer)
            packets.add_metric(["from_peer", transport, plane], traffic.packets_from_peer)
            size.add_metric(["to_peer", transport, plane], traffic.bytes_to_peer)
            size.add_metric(["from_peer", transport, plane], traffic.bytes_from_peer)
        yield packets
        yield size

    def _moved(self) -> Iterator[tuple[str, str, Traffic]]:
        for plane, by_transport in self._plane.traffic_by_plane().items():
            for transport, traffic in by_transport.items():
                yield plane, transport.value, traffic

    def _losses(self) -> Iterator[Metric]:
        dropped = CounterMetricFamily(
            "turnrelay_dropped_packets", "Application packets not relayed, by reason.", labels=["reason"]
        )
        for reason, count in {**dict.fromkeys(DROP_REASONS, 0), **self._plane.drops()}.items():
            dropped.add_metric([reason], count)
        yield dropped
        unread = CounterMetricFamily(
            "turnrelay_kernel_dropped_packets",
            "Packets that the kernel dropped because a receive buffer was full: the relay is too slow.",
            labels=["socket"],
        )
        unread.add_metric(["listener"], self._clients.receive_drops())
        unread.add_metric(["relay"], self._plane.receive_drops())
        yield unread
        discarded = CounterMetricFamily(
            "turnrelay_discarded_messages",
            "What clients sent that is nothing to answer, by reason.",
            labels=["reason"],
        )
        for reason, count in self._clients.discarded().items():
            discarded.add_metric([reason], count)
        for discard in Discard:
            discarded.add_metric([discard.value], self._server.state.discards[discard])
        yield discarded
