"""Reads a Prometheus page the way Prometheus does."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from support.netns import Namespace, inside


@dataclass(frozen=True)
class Scrape:
    """The samples of one page, by name and labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that carry at least these labels; zero when there are none."""
        wanted = set(labels.items())
        return sum(
            value
            for (sample, sample_labels), value in self.samples.items()
            if sample == name and sample_labels >= wanted
        )


def parse(page: str) -> Scrape:
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
    )


def scrape(address: str, port: int, namespace: Namespace | None = None) -> Scrape:
    status, page = http_get(address, port, "/metrics", namespace)
    assert status == 200, f"/metrics answered {status}: {page}"
    return parse(page)


def http_get(address: str, port: int, path: str, namespace: Namespace | None = None) -> tuple[int, str]:
    """Status and body; status 0 when nothing answers yet."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        with inside(namespace):
            connection.connect()
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()
