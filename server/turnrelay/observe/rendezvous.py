"""The figures of the rendezvous, read when they are scraped. No label holds a key or an address."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class RendezvousFigures(Collector):
    """Connections, messages by result, refusals by reason."""

    def __init__(
        self,
        connections: Callable[[], int],
        keys: Callable[[], int],
        messages: Callable[[], Mapping[str, int]],
        refusals: Callable[[], Mapping[str, int]],
    ) -> None:
        self._connections = connections
        self._keys = keys
        self._messages = messages
        self._refusals = refusals

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "turnrelay_rendezvous_connections", "Clients at the rendezvous.", self._connections()
        )
        yield GaugeMetricFamily("turnrelay_rendezvous_keys", "Keys that are registered there.", self._keys())
        messages = CounterMetricFamily(
            "turnrelay_rendezvous_messages", "Messages between keys, by result.", labels=["result"]
        )
        for result, count in self._messages().items():
            messages.add_metric([result], count)
        yield messages
        refusals = CounterMetricFamily(
            "turnrelay_rendezvous_refusals",
            "Connections to the rendezvous that the relay refused or ended, by reason.",
            labels=["reason"],
        )
        for reason, count in self._refusals().items():
            refusals.add_metric([reason], count)
        yield refusals
