"""Totals: the metrics of all processes as those of one relay."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_ADDED_UP = ("counter", "histogram", "summary")
_GAUGES_ADDED_UP = frozenset(
    (
        "turnrelay_allocations",
        "turnrelay_permissions",
        "turnrelay_channels",
        "turnrelay_relay_ports_in_use",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
    )
)
"""Every other gauge is told by the supervisor alone: a version, a date, whether the relay is ready."""

_RESTARTS = "turnrelay_worker_restarts"

Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, sample, labels."""


class Report:
    """What a worker has to tell of its registry: the samples that changed."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry
        self._told: dict[Key, float] = {}

    def changes(self) -> list[list[Any]]:
        """Family, sample, labels and value of each sample that is not what it was."""
        changed: list[list[Any]] = []
        for family in self._registry.collect():
            if family.type not in _ADDED_UP and family.name not in _GAUGES_ADDED_UP:
                continue
            for sample in family.samples:
                key = (family.name, sample.name, tuple(sample.labels.items()))
                if self._told.get(key, 0.0) != sample.value:
                    self._told[key] = sample.value
                    changed.append([family.name, sample.name, list(sample.labels.items()), sample.value])
        return changed


class Totals(Collector):
    """The supervisor's own registry, and on top of it what the workers told.

    What a worker counted in its life stays counted when it ends; what it held is gone with it.
    """

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._ended: dict[Key, float] = {}
        self._told: dict[int, dict[Key, float]] = {}
        self.restarts: dict[int, int] = {}
        self.up: dict[int, bool] = {}

    def add_worker(self, member: int) -> None:
        self.restarts[member], self.up[member] = 0, False

    def tell(self, member: int, changed: Iterable[list[Any]]) -> None:
        """A worker's report."""
        told = self._told.setdefault(member, {})
        for family, sample, labels, value in changed:
            told[family, sample, tuple((name, text) for name, text in labels)] = value

    def ended(self, member: int) -> None:
        """A worker ended; its successor counts from zero."""
        for key, value in self._told.pop(member, {}).items():
            if key[0] not in _GAUGES_ADDED_UP:
                self._ended[key] = self._ended.get(key, 0.0) + value

    def go_on(self, counted: Iterable[list[Any]]) -> None:
        """Counts on from the samples of a relay that this one goes on for."""
        for family, sample, labels, value in counted:
            if family == _RESTARTS:
                self.restarts[int(dict(labels)["worker"])] = int(value)
            elif family not in _GAUGES_ADDED_UP:
                key = family, sample, tuple((name, text) for name, text in labels)
                self._ended[key] = self._ended.get(key, 0.0) + value

    def collect(self) -> Iterator[Metric]:
        sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for told in (self._ended, *self._told.values()):
            for (name, sample, labels), value in told.items():
                family = sums.setdefault(name, {})
                family[sample, labels] = family.get((sample, labels), 0.0) + value
        for own in self._own.collect():
            yield _summed(own, sums[own.name]) if own.name in sums else own
        yield from self._about_workers()

    def _about_workers(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("turnrelay_worker_up", "Whether the worker process serves.", labels=["worker"])
        restarts = CounterMetricFamily(
            _RESTARTS,
            "How often the worker process was started again since it ended.",
            labels=["worker"],
        )
        for member, count in self.restarts.items():
            up.add_metric([str(member)], float(self.up[member]))
            restarts.add_metric([str(member)], count)
        if self.restarts:
            yield up
            yield restarts


def _summed(own: Metric, more: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> Metric:
    family = Metric(own.name, own.documentation, own.type)
    seen = set()
    for sample in own.samples:
        key = (sample.name, tuple(sample.labels.items()))
        seen.add(key)
        family.samples.append(Sample(sample.name, sample.labels, sample.value + more.get(key, 0.0)))
    family.samples += [
        Sample(name, dict(labels), value)
        for (name, labels), value in more.items()
        if (name, labels) not in seen
    ]
    return family
