"""The shapes of dashboards and panels, so that a dashboard is said in titles, queries and units."""

from collections.abc import Iterator, Sequence
from typing import Any

Panel = dict[str, Any]
Steps = Sequence[tuple[str, float | None]]
"""Colors, and the values from which on they hold; None for the lowest."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECT = 'job=~"$job",instance=~"$instance"'
"""The matchers of every query."""
WIDTH = 24

GOOD_WHEN_HIGH = [("red", None), ("orange", 0.7), ("yellow", 0.85), ("green", 0.95)]
GOOD_WHEN_LOW = [("green", None), ("yellow", 0.7), ("red", 0.85)]
YES_OR_NO = [("red", None), ("green", 1)]
NEUTRAL: Steps = [("blue", None)]


def rate(metric: str, by: str = "", more: str = "", window: str = "$__rate_interval") -> str:
    """The rate a second of a counter, summed over what `by` does not name."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{join(more)}}}[{window}]))"


def increase(metric: str, by: str = "", more: str = "") -> str:
    """What a counter gained in the time that is shown."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (increase({metric}{{{join(more)}}}[$__range]))"


def quantile(q: float, histogram: str, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', labels)})"


def join(more: str) -> str:
    return f"{SELECT},{more}" if more else SELECT


def stat(title: str, description: str, expr: str, unit: str, steps: Steps) -> Panel:
    """One number."""
    panel = _panel("stat", title, description, [(expr, title)], unit, width=4, height=5, instant=True)
    panel["fieldConfig"]["defaults"] |= {"color": {"mode": "thresholds"}, "thresholds": _thresholds(steps)}
    panel["options"] = {
        "colorMode": "value",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"]},
    }
    return panel


def lines(
    title: str, description: str, queries: Sequence[tuple[str, str]], unit: str, *, stacked: bool = False
) -> Panel:
    """Curves over time; `queries` are pairs of expression and legend."""
    panel = _panel("timeseries", title, description, queries, unit, width=12, height=8)
    custom: dict[str, Any] = {"fillOpacity": 30 if stacked else 8, "lineWidth": 1, "showPoints": "never"}
    custom["stacking"] = {"mode": "normal" if stacked else "none"}
    panel["fieldConfig"]["defaults"] |= {"custom": custom, "min": 0, "color": {"mode": "palette-classic"}}
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def bars(title: str, description: str, expr: str, legend: str, unit: str, steps: Steps) -> Panel:
    """One bar for each value of a label, over the time that is shown."""
    panel = _panel("bargauge", title, description, [(expr, legend)], unit, width=12, height=8, instant=True)
    defaults = {"min": 0, "color": {"mode": "thresholds"}, "thresholds": _thresholds(steps)}
    panel["fieldConfig"]["defaults"] |= defaults | ({"max": 1} if unit == "percentunit" else {})
    panel["options"] = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "showUnfilled": True,
    }
    return panel


def matrix(title: str, description: str, expr: str, rows: str, columns: str, unit: str) -> Panel:
    """A heat map over two labels."""
    panel = _panel("table", title, description, [(expr, "")], unit, width=12, height=8, instant=True)
    panel["targets"][0]["format"] = "table"
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "thresholds"},
        "custom": {"align": "center", "cellOptions": {"type": "color-background", "mode": "basic"}},
        "thresholds": _thresholds(GOOD_WHEN_HIGH),
        "noValue": "-",
    }
    grouping = {"rowField": rows, "columnField": columns, "valueField": "Value", "emptyValue": "null"}
    panel["transformations"] = [{"id": "groupingToMatrix", "options": grouping}]
    panel["options"] = {"cellHeight": "md", "showHeader": True}
    return panel


def dashboard(uid: str, title: str, description: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """The whole document, panels flowing in rows."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["turnrelay"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [
            {
                "title": "turnrelay",
                "type": "dashboards",
                "tags": ["turnrelay"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "panels": list(_placed(panels)),
    }


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[tuple[str, str]],
    unit: str,
    *,
    width: int,
    height: int,
    instant: bool = False,
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
            }
            for number, (expr, legend) in enumerate(queries)
        ],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }


def _thresholds(steps: Steps) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}


def _placed(panels: Sequence[Panel]) -> Iterator[Panel]:
    """Numbers the panels and gives each its place: from left to right, then the next row."""
    x = y = row_height = 0
    for number, panel in enumerate(panels, 1):
        place = panel["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, row_height = 0, y + row_height, 0
        yield {"id": number, **panel, "gridPos": {**place, "x": x, "y": y}}
        x += place["w"]
        row_height = max(row_height, place["h"])


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _label_variable("job", "Job", "label_values(turnrelay_build_info, job)"),
        _label_variable("instance", "Relay", 'label_values(turnrelay_build_info{job=~"$job"}, instance)'),
    ]


def _label_variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }
