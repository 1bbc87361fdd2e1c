"""Metrics: what Prometheus scrapes. No label ever holds a user, an address or a realm."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from stunwire import Method

from turnrelay.core.addresses import Transport
from turnrelay.core.events import (
    AllocationCreated,
    AllocationEnded,
    AllocationRefused,
    AuthenticationFailed,
    AuthenticationFailure,
    EndReason,
    Event,
    PeerDenied,
    RefusalReason,
    RequestAnswered,
    Throttle,
    Throttled,
)
from turnrelay.core.protocols import DenyRule
from turnrelay.core.server import Server
from turnrelay.observe.traversal import TraversalMetrics
from turnrelay.relay.plane import RelayPlane

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = {
    method: method.name.lower()
    for method in (
        Method.BINDING,
        Method.ALLOCATE,
        Method.REFRESH,
        Method.CREATE_PERMISSION,
        Method.CHANNEL_BIND,
    )
}


class Metrics:
    """Counts events as they happen, and reads live figures when scraped."""

    def __init__(self, version: str, plane_name: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of use to nobody here
        self.registry = CollectorRegistry()
        registry = self.registry
        info = Gauge("turnrelay_build_info", "The running version.", ["version"], registry=registry)
        info.labels(version).set(1)
        plane = Gauge("turnrelay_plane_info", "The data plane in use.", ["plane"], registry=registry)
        plane.labels(plane_name).set(1)
        self._requests = Counter(
            "turnrelay_requests",
            "Requests answered, by method and result (success, or the error code).",
            ["method", "result", "transport"],
            registry=registry,
        )
        self._authentication_failures = Counter(
            "turnrelay_authentication_failures",
            "Requests not accepted as anybody's; no_credentials is the usual first step of a client.",
            ["reason"],
            registry=registry,
        )
        self._allocations_created = Counter(
            "turnrelay_allocations_created",
            "Allocations created, by the client's transport.",
            ["transport"],
            registry=registry,
        )
        self._allocations_ended = Counter(
            "turnrelay_allocations_ended", "Allocations ended, by reason.", ["reason"], registry=registry
        )
        self._allocations_refused = Counter(
            "turnrelay_allocations_refused",
            "Authenticated Allocate requests refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self._peers_denied = Counter(
            "turnrelay_peers_denied", "Peer addresses denied, by rule.", ["rule"], registry=registry
        )
        self._throttled = Counter(
            "turnrelay_throttled", "Messages dropped by a rate limit, by limit.", ["limit"], registry=registry
        )
        self.traversal = TraversalMetrics(registry)
        self._start_from_zero()

    def observe(self, event: Event) -> None:
        """Counts one event of the core."""
        match event:
            case RequestAnswered(method, code, transport):
                name = _METHODS.get(Method(method), "other")
                result = str(int(code)) if code else _SUCCESS
                self._requests.labels(name, result, transport.value).inc()
            case AuthenticationFailed(_, reason):
                self._authentication_failures.labels(reason.value).inc()
            case AllocationCreated():
                self._allocations_created.labels(event.path.transport.value).inc()
            case AllocationEnded():
                self._allocations_ended.labels(event.reason.value).inc()
            case AllocationRefused():
                self._allocations_refused.labels(event.reason.value).inc()
            case PeerDenied():
                self._peers_denied.labels(event.rule.value).inc()
            case Throttled(_, throttle):
                self._throttled.labels(throttle.value).inc()

    def watch(self, server: Server, plane: RelayPlane, discarded: Callable[[], dict[str, int]]) -> None:
        """Adds the figures that are read at the moment of the scrape."""
        self.registry.register(_LiveFigures(server, plane, discarded))

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)

    def _start_from_zero(self) -> None:
        """A series that appears with its first event hides that event from rate(); so all start at zero."""
        for transport in Transport:
            self._allocations_created.labels(transport.value)
            for method in _METHODS.values():
                self._requests.labels(method, _SUCCESS, transport.value)
        for failure in AuthenticationFailure:
            self._authentication_failures.labels(failure.value)
        for reason in EndReason:
            self._allocations_ended.labels(reason.value)
        for refusal in RefusalReason:
            self._allocations_refused.labels(refusal.value)
        for rule in DenyRule:
            self._peers_denied.labels(rule.value)
        for throttle in Throttle:
            self._throttled.labels(throttle.value)


_SUCCESS = "success"


class _LiveFigures(Collector):
    def __init__(self, server: Server, plane: RelayPlane, discarded: Callable[[], dict[str, int]]) -> None:
        self._server = server
        self._plane = plane
        self._discarded = discarded

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._holdings()
        yield from self._traffic()
        dropped = CounterMetricFamily(
            "turnrelay_dropped_packets", "Application packets not relayed, by reason.", labels=["reason"]
        )
        for reason, count in self._plane.drops().items():
            dropped.add_metric([reason], count)
        yield dropped
        discarded = CounterMetricFamily(
            "turnrelay_discarded_messages",
            "What clients sent that is nothing to answer, by reason.",
            labels=["reason"],
        )
        for reason, count in self._discarded().items():
            discarded.add_metric([reason], count)
        yield discarded

    def _holdings(self) -> Iterator[Metric]:
        allocations = self._server.state.allocations
        live = GaugeMetricFamily(
            "turnrelay_allocations", "Live allocations, by the client's transport.", labels=["transport"]
        )
        by_transport = dict.fromkeys(Transport, 0)
        permissions = channels = 0
        for path, allocation in allocations.items():
            by_transport[path.transport] += 1
            permissions += len(allocation.permissions)
            channels += allocation.bound_channels()
        for transport, count in by_transport.items():
            live.add_metric([transport.value], count)
        yield live
        yield GaugeMetricFamily("turnrelay_permissions", "Live permissions.", permissions)
        yield GaugeMetricFamily("turnrelay_channels", "Live channel bindings.", channels)
        in_use = capacity = 0
        for used, size in self._plane.ports():
            in_use += used
            capacity += size
        yield GaugeMetricFamily("turnrelay_relay_ports_in_use", "Relay ports in use or reserved.", in_use)
        yield GaugeMetricFamily("turnrelay_relay_ports", "Relay ports there are.", capacity)

    def _traffic(self) -> Iterator[Metric]:
        labels = ["direction", "transport"]
        packets = CounterMetricFamily(
            "turnrelay_relayed_packets",
            "Application packets relayed, by the client's transport.",
            labels=labels,
        )
        size = CounterMetricFamily(
            "turnrelay_relayed_bytes", "Application bytes relayed, headers not counted.", labels=labels
        )
        for transport, traffic in self._plane.traffic().items():
            name = transport.value
            packets.add_metric(["to_peer", name], traffic.packets_to_peer)
            packets.add_metric(["from_peer", name], traffic.packets_from_peer)
            size.add_metric(["to_peer", name], traffic.bytes_to_peer)
            size.add_metric(["from_peer", name], traffic.bytes_from_peer)
        yield packets
        yield size
