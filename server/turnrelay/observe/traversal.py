"""TraversalMetrics: outcomes that SDKs reported, and how many of those that could be were."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from stunwire import (
    NAT_PAIRS,
    Outcome,
    PathFamily,
    TraversalMethod,
    TraversalOutcome,
)

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 15, 30, 60)


class TraversalMetrics:
    """Counts records. Every label is a closed set, so every series is there from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._sessions = Counter(
            "turnrelay_traversal_sessions",
            "Attempts to reach a peer, as reported by SDKs; method and family are those of the path.",
            ["outcome", "method", "family"],
            registry=registry,
        )
        self._methods = Counter(
            "turnrelay_traversal_method_outcomes",
            "Methods tried within those attempts; cancelled: another one was there first.",
            ["method", "family", "outcome"],
            registry=registry,
        )
        self._pairs = Counter(
            "turnrelay_traversal_nat_pairs",
            "Those attempts by the unordered pair of NAT classes.",
            ["pair", "outcome"],
            registry=registry,
        )
        self._durations = Histogram(
            "turnrelay_traversal_duration_seconds",
            "From the call to the path, for attempts that connected, by the method of the path.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._reports = Counter(
            "turnrelay_traversal_reports",
            "Reports received, by what became of them.",
            ["result"],
            registry=registry,
        )
        self.by_outcome = dict.fromkeys((outcome.value for outcome in Outcome), 0)
        """How many attempts so far."""
        self._start_from_zero()

    def watch(self, minted: Callable[[], int], results: Iterable[str]) -> None:
        """Adds how many tokens were handed out, and starts the counts of reports at zero."""
        self._registry.register(_Minted(minted))
        for result in results:
            self._reports.labels(result)

    def record(self, outcome: TraversalOutcome) -> None:
        """Counts one record."""
        self.by_outcome[outcome.outcome] += 1
        self._sessions.labels(outcome.outcome, outcome.method, outcome.family).inc()
        self._pairs.labels(outcome.nat_pair, outcome.outcome).inc()
        for tried in outcome.attempts:
            self._methods.labels(tried.method, tried.family, tried.outcome).inc()
        if outcome.outcome is Outcome.CONNECTED:
            self._durations.labels(outcome.method).observe(outcome.duration_ms / 1000)

    def count_report(self, result: str) -> None:
        """Counts one report, accepted or not."""
        self._reports.labels(result).inc()

    def _start_from_zero(self) -> None:
        methods = [method for method in TraversalMethod if method is not TraversalMethod.NONE]
        for outcome in Outcome:
            if outcome is not Outcome.CONNECTED:
                self._sessions.labels(outcome, TraversalMethod.NONE, PathFamily.NONE)
            for pair in NAT_PAIRS:
                self._pairs.labels(pair, outcome)
        for method in methods:
            self._durations.labels(method)
            for family in PathFamily:
                self._sessions.labels(Outcome.CONNECTED, method, family)
                for outcome in Outcome:
                    self._methods.labels(method, family, outcome)


class _Minted(Collector):
    def __init__(self, minted: Callable[[], int]) -> None:
        self._minted = minted

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "turnrelay_credentials_issued",
            "Credentials handed out together with a token to report an outcome.",
            self._minted(),
        )
