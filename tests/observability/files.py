"""The dashboards and rules as the tests read them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
PROMETHEUS = GRAFANA / "prometheus"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))

_METRIC = re.compile(r"\b(?:turnrelay|process)_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(bucket|count|sum)$")


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    dashboard: str
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expr}"


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of the dashboard and the panel."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield path.stem, panel


def queries() -> list[Query]:
    return [
        Query(dashboard, panel["title"], target["expr"])
        for dashboard, panel in panels()
        for target in panel["targets"]
    ]


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of `recording` or `alerts`."""
    document = yaml.safe_load((PROMETHEUS / f"{kind}.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def metrics_in(expr: str) -> set[str]:
    """The metrics that a query names, those of histograms without their suffix; no recorded ones."""
    return {_SUFFIX.sub("", name) for name in _METRIC.findall(re.sub(r"\w+:\w+:\w+", "", expr))}
