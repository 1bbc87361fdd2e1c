"""Metrics: what Prometheus scrapes. No label ever holds a user, an address or a realm.

docs/metrics.md is made from the page of a running relay.
"""

import platform
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

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
    Throttle,
    Throttled,
)
from turnrelay.core.protocols import DenyRule
from turnrelay.core.server import Server
from turnrelay.observe.health import HealthMetrics
from turnrelay.observe.latency import Latency
from turnrelay.observe.live_figures import ClientSide, LiveFigures
from turnrelay.observe.traversal import TraversalMetrics
from turnrelay.relay.plane import RelayPlane

Label = TypeVar("Label", bound=Enum)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts events as they happen, and reads live figures when scraped."""

    def __init__(self, version: str, plane_name: str, mover_name: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of use to nobody here
        self.registry = CollectorRegistry()
        self.page: Collector = self.registry
        """What is rendered: this process' figures, or with them those of others."""
        registry = self.registry
        info = Gauge(
            "turnrelay_build_info",
            "Always 1; its labels tell the running version.",
            ["version", "python"],
            registry=registry,
        )
        info.labels(version, platform.python_version()).set(1)
        plane = Gauge(
            "turnrelay_plane_info",
            "Always 1; its labels tell the data plane in use and what moves packets in userspace.",
            ["plane", "mover"],
            registry=registry,
        )
        plane.labels(plane_name, mover_name).set(1)
        ProcessCollector(registry=registry)
        self._latency = Latency()
        self.answered = self._latency.answered
        """Counts one answer, formed so many seconds after its request was read."""
        registry.register(self._latency)
        failures = Counter(
            "turnrelay_authentication_failures",
            "Requests not accepted as anybody's; no_credentials is the usual first step of a client.",
            ["reason"],
            registry=registry,
        )
        self._failures = _series(failures, AuthenticationFailure)
        created = Counter(
            "turnrelay_allocations_created",
            "Allocations created, by the client's transport.",
            ["transport"],
            registry=registry,
        )
        self._allocations_created = _series(created, Transport)
        ended = Counter(
            "turnrelay_allocations_ended", "Allocations ended, by reason.", ["reason"], registry=registry
        )
        self._allocations_ended = _series(ended, EndReason)
        refused = Counter(
            "turnrelay_allocations_refused",
            "Authenticated Allocate requests refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self._allocations_refused = _series(refused, RefusalReason)
        denied = Counter(
            "turnrelay_peers_denied", "Peer addresses denied, by rule.", ["rule"], registry=registry
        )
        self._peers_denied = _series(denied, DenyRule)
        throttled = Counter(
            "turnrelay_throttled",
            "Messages that a rate limit left without an answer, by limit.",
            ["limit"],
            registry=registry,
        )
        self._throttled = _series(throttled, Throttle)
        self.health = HealthMetrics(registry)
        self.traversal = TraversalMetrics(registry)

    def observe(self, event: Event) -> None:
        """Counts one event of the core."""
        match event:
            case AuthenticationFailed():
                self._failures[event.reason].inc()
            case AllocationCreated():
                self._allocations_created[event.path.transport].inc()
            case AllocationEnded():
                self._allocations_ended[event.reason].inc()
                self._latency.allocation_ended(event.age)
            case AllocationRefused():
                self._allocations_refused[event.reason].inc()
            case PeerDenied():
                self._peers_denied[event.rule].inc()
            case Throttled():
                self._throttled[event.throttle].inc()

    def watch(
        self,
        server: Server,
        plane: RelayPlane,
        clients: ClientSide,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
    ) -> None:
        """Adds the figures that are read at the moment of the scrape."""
        self.registry.register(LiveFigures(server, plane, clients))
        self.health.watch(ready, draining)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.page)


def _series(counter: Counter, labels: type[Label]) -> dict[Label, Counter]:
    """The series of each label. One that appears with its first event hides that event from rate(); so all
    start at zero."""
    return {label: counter.labels(label.value) for label in labels}
