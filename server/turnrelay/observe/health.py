"""HealthMetrics: whether the relay itself is well."""

from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from turnrelay.observe.self_test import CHECKS

_NOT_YET = float("nan")
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class HealthMetrics:
    """What is set by those who find it out."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge(
            "turnrelay_ready",
            "1 while new clients are taken; 0 while the relay starts, drains or stops.",
            registry=registry,
        )
        self._draining = Gauge(
            "turnrelay_draining",
            "1 while the relay makes no new allocations and waits for the end of those that live.",
            registry=registry,
        )
        self._lag = Histogram(
            "turnrelay_event_loop_lag_seconds",
            "How late a timer fires that is set twice a second: what a packet waits for its turn.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self._certificate = _OnceKnown(
            "turnrelay_certificate_expiry_timestamp_seconds",
            "Unix time at which the TLS certificate in use ends; not there without TLS.",
        )
        registry.register(self._certificate)
        self._success = Gauge(
            "turnrelay_self_test_success",
            "Whether the relay got the right answer from itself at the last self-test, by check.",
            ["check"],
            registry=registry,
        )
        self._duration = Gauge(
            "turnrelay_self_test_duration_seconds",
            "How long the check took at the last self-test.",
            ["check"],
            registry=registry,
        )
        self._tests = Counter(
            "turnrelay_self_tests",
            "Checks made on itself, by result.",
            ["check", "result"],
            registry=registry,
        )
        for check in CHECKS:
            # Neither success nor failure until the first self-test: an alert must not take 0 for one.
            self._success.labels(check).set(_NOT_YET)
            self._duration.labels(check).set(_NOT_YET)
            for result in ("success", "failure"):
                self._tests.labels(check, result)

    def watch(self, ready: Callable[[], bool], draining: Callable[[], bool]) -> None:
        """Reads the state at the moment of the scrape."""
        self._ready.set_function(lambda: float(ready()))
        self._draining.set_function(lambda: float(draining()))

    def loop_lag(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def certificate(self, not_after: datetime) -> None:
        """The certificate that new connections get ends then."""
        self._certificate.value = not_after.timestamp()

    def self_test(self, check: str, seconds: float | None) -> None:
        """One check of the self-test: the seconds that it took, None if it failed."""
        self._success.labels(check).set(seconds is not None)
        self._tests.labels(check, "failure" if seconds is None else "success").inc()
        if seconds is not None:
            self._duration.labels(check).set(seconds)


class _OnceKnown:
    """A gauge without a sample until there is a value: an alert must not take 0 for one."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self.value: float | None = None

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._documentation)
        if self.value is not None:
            family.add_metric([], self.value)
        return [family]
