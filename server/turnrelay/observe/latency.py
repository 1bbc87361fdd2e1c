"""Latency: how many requests were answered how, how long they took, and how long allocations lived.

Every request is counted and measured, so it is done here with an addition each; the families that Prometheus
reads are made of that when it asks.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from stunwire import Method

from turnrelay.core.addresses import Transport
from turnrelay.core.events import RequestAnswered

_REQUEST_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_LIFE_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 14400, 86400)
_OTHER = "other"
_ALLOCATE = Method.ALLOCATE

_METHODS: dict[int, str] = {
    method: method.name.lower()
    for method in (
        Method.BINDING,
        Method.ALLOCATE,
        Method.REFRESH,
        Method.CREATE_PERMISSION,
        Method.CHANNEL_BIND,
        Method.CONNECT,
        Method.CONNECTION_BIND,
    )
}


def method_name(method: int) -> str:
    """The label of a method; "other" for one that this relay answers with an error alone."""
    return _METHODS.get(method, _OTHER)


class Durations:
    """One series of a histogram; `bounds` are the upper ends of its buckets in seconds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum)


class Latency(Collector):
    """Requests and allocations, by what became of them and how long it took."""

    def __init__(self) -> None:
        # A series that appears with its first event hides that event from rate(); so all start at zero.
        self._answers = {
            RequestAnswered(method, 0, transport): 0 for method in _METHODS for transport in Transport
        }
        self._requests = {method: Durations(_REQUEST_SECONDS) for method in _METHODS}
        self._other_requests = Durations(_REQUEST_SECONDS)
        self._setup = Durations(_REQUEST_SECONDS)
        self._lives = Durations(_LIFE_SECONDS)

    def answered(self, answer: RequestAnswered, seconds: float) -> None:
        """A response was formed, so long after its request was read."""
        self._answers[answer] = self._answers.get(answer, 0) + 1
        method, code, _ = answer
        self._requests.get(method, self._other_requests).add(seconds)
        if method == _ALLOCATE and not code:
            self._setup.add(seconds)

    def allocation_ended(self, age: float) -> None:
        self._lives.add(age)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "turnrelay_requests",
            "Requests answered, by method and result (success, or the error code).",
            labels=["method", "result", "transport"],
        )
        sums: dict[tuple[str, str, str], int] = {}
        for (method, code, transport), count in self._answers.items():
            labels = method_name(method), str(int(code)) if code else "success", transport.value
            sums[labels] = sums.get(labels, 0) + count
        for labels, count in sums.items():
            answers.add_metric(labels, count)
        yield answers
        requests = HistogramMetricFamily(
            "turnrelay_request_duration_seconds",
            "From reading a request to forming its response, by method.",
            labels=["method"],
        )
        for method, durations in self._requests.items():
            durations.add_to(requests, [_METHODS[method]])
        self._other_requests.add_to(requests, [_OTHER])
        yield requests
        setup = HistogramMetricFamily(
            "turnrelay_allocation_setup_seconds",
            "From reading an Allocate request to its success response: user looked up, port opened.",
        )
        self._setup.add_to(setup, [])
        yield setup
        lives = HistogramMetricFamily(
            "turnrelay_allocation_duration_seconds",
            "How long allocations lived, counted when they end.",
        )
        self._lives.add_to(lives, [])
        yield lives
