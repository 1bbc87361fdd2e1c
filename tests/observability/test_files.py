"""What can be said of the dashboards and rules without running anything but promtool."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from observability.files import DASHBOARDS, GRAFANA, PROMETHEUS, ROOT, metrics_in, panels, queries, rules
from support.processes import run
from support.requirements import require_program

DOCUMENTED = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
EVERY_PANEL = [pytest.param(panel, id=f"{name}: {panel['title']}") for name, panel in panels()]


def test_the_dashboards_are_what_the_generator_makes(tmp_path):
    subprocess.run([sys.executable, GRAFANA / "generate.py", tmp_path], check=True)
    for path in DASHBOARDS:
        assert (tmp_path / path.name).read_text() == path.read_text(), "run `make docs`"
    assert len(DASHBOARDS) == len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("panel", EVERY_PANEL)
def test_a_panel_says_what_it_shows(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        selected = re.findall(r"\{([^{}]*)\}", target["expr"])
        assert selected, "a query without matchers"
        assert all('job=~"$job"' in matchers for matchers in selected)
        assert all('instance=~"$instance"' in matchers for matchers in selected)
        windows = re.findall(r"\[([^\]]*)\]", target["expr"])
        assert set(windows) <= {"$__rate_interval", "$__range"}
        assert ("rate(" in target["expr"]) is ("$__rate_interval" in windows)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_beside_each_other_and_have_numbers_of_their_own(path):
    dashboard = json.loads(path.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == [
        "datasource",
        "job",
        "instance",
    ]


def test_every_metric_that_is_asked_for_is_documented():
    asked = {name for query in queries() for name in metrics_in(query.expr)}
    asked |= {
        name for kind in ("recording", "alerts") for rule in rules(kind) for name in metrics_in(rule["expr"])
    }
    assert len(asked) > 30
    assert asked <= DOCUMENTED


def test_every_recorded_name_that_an_alert_asks_for_is_recorded():
    recorded = {rule["record"] for rule in rules("recording")}
    asked = {name for rule in rules("alerts") for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    assert asked
    assert asked <= recorded


def test_every_alert_says_what_is_wrong_and_what_to_do():
    for rule in rules("alerts"):
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_every_alert_is_tried_both_ways():
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    silent, raised = set(), set()
    for case in tests:
        for expectation in case["alert_rule_test"]:
            (raised if expectation.get("exp_alerts") else silent).add(expectation["alertname"])
    assert silent == raised == {rule["alert"] for rule in rules("alerts")}


def test_promtool_accepts_the_rules_and_they_do_as_their_tests_say():
    promtool = require_program("promtool")
    run([promtool, "check", "rules", PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"], timeout=30)
    run([promtool, "check", "config", PROMETHEUS / "prometheus.yml"], timeout=30)
    run([promtool, "test", "rules", PROMETHEUS / "rules_test.yml"], timeout=60)


def test_provisioning_names_what_is_there():
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/turnrelay.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    [source] = sources["datasources"]
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
