"""Latency: how long requests and allocations take."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram

_REQUEST_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_LIFE_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 14400, 86400)


class Latency:
    """Histograms; their children are looked up once, since every request is measured."""

    def __init__(self, registry: CollectorRegistry, methods: Iterable[str]) -> None:
        requests = Histogram(
            "turnrelay_request_duration_seconds",
            "From reading a request to forming its response, by method.",
            ["method"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._requests = {method: requests.labels(method) for method in (*methods, "other")}
        self._setup = Histogram(
            "turnrelay_allocation_setup_seconds",
            "From reading an Allocate request to its success response: user looked up, port opened.",
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._lives = Histogram(
            "turnrelay_allocation_duration_seconds",
            "How long allocations lived, counted when they end.",
            buckets=_LIFE_SECONDS,
            registry=registry,
        )

    def answered(self, method: str, seconds: float) -> None:
        self._requests[method].observe(seconds)

    def allocated(self, seconds: float) -> None:
        self._setup.observe(seconds)

    def allocation_ended(self, age: float) -> None:
        self._lives.observe(age)
