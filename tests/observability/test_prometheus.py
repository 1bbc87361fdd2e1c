"""A real Prometheus scrapes a relay that has a busy day: every panel and every rule has something to show."""

import asyncio
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from observability.files import PROMETHEUS, ROOT, Query, metrics_in, queries, rules
from observability.traffic import Traffic
from prometheus_client.parser import text_string_to_metric_families
from support.ports import loopback_address
from support.processes import Process, run
from support.relay import Access, Site
from support.requirements import require_program
from support.turnrelay_server import TurnRelayServer

pytestmark = pytest.mark.slow

OPERATOR_TOKEN = "the-operator-of-the-observability-test"
ACCESS = Access(shared_secret="the secret of the observability test", allowed_peers=("127.0.0.0/8",))
VARIABLES = {"$__rate_interval": "20s", "$__range": "2m", "$job": "turnrelay", "$instance": ".+"}


class Prometheus:
    """Debian's, with this repository's configuration, once a second."""

    def __init__(self, folder: Path, target: str, address: str) -> None:
        self._url = f"http://{address}:9090"
        for name in ("recording.yml", "alerts.yml"):
            (folder / name).write_text((PROMETHEUS / name).read_text())
        config = (PROMETHEUS / "prometheus.yml").read_text()
        config = config.replace("15s", "1s").replace("localhost:9641", target)
        (folder / "prometheus.yml").write_text(config)
        self.process = Process(
            [
                require_program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}:9090",
                "--log.level=warn",
            ]
        )

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expr: str) -> list[float]:
        """The finite values of an instant query."""
        for variable, value in VARIABLES.items():
            expr = expr.replace(variable, value)
        samples = self.get("query", query=expr)["result"]
        return [value for sample in samples if math.isfinite(value := float(sample["value"][1]))]

    def wait_for(self, expr: str) -> None:
        deadline = time.monotonic() + 60
        while not self.values(expr):
            assert time.monotonic() < deadline, f"{expr} has no value\n{self.process.output()[-2000:]}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnRelayServer]:
    folder = tmp_path_factory.mktemp("relay")
    flags = ["--operator-token", OPERATOR_TOKEN]
    with (
        loopback_address() as address,
        TurnRelayServer(Site.prepare(folder, address), ACCESS, flags=flags) as it,
    ):
        yield it


@pytest.fixture(scope="module")
def prometheus(relay: TurnRelayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After the busy day, of which it has seen the beginning and the end."""
    with loopback_address() as address:
        it = Prometheus(tmp_path_factory.mktemp("prometheus"), f"{relay.site.address}:9641", address)
        with it.process:
            # rate() needs a sample from before: what happens before the first scrape is not seen to happen.
            it.process.wait_until(lambda: _is_ready(it), timeout=60)
            it.wait_for("turnrelay_build_info")
            traffic = Traffic(relay, OPERATOR_TOKEN)
            asyncio.run(_busy_day(traffic))
            for accepted in (
                'turnrelay_traversal_reports_total{result="accepted"} == 6',
                "sum(turnrelay_allocations_ended_total) >= 6",
                "job:turnrelay_traversal_coverage:ratio1d",
            ):
                it.wait_for(accepted)
            yield it


def _is_ready(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.get("query", query="1"))
    except OSError:
        return False


async def _busy_day(traffic: Traffic) -> None:
    for transport in ("udp", "tcp", "tls"):
        await traffic.relayed_session(transport)
    await asyncio.to_thread(traffic.other_outcomes)
    await asyncio.to_thread(traffic.trouble)


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_panel_has_something_to_show(prometheus: Prometheus, query: Query) -> None:
    prometheus.wait_for(query.expr)


def test_trouble_shows_for_what_it_was(prometheus: Prometheus) -> None:
    for expr in (
        'turnrelay_authentication_failures_total{reason="wrong_password"} >= 3',
        'turnrelay_peers_denied_total{rule="special_purpose"} >= 2',
        'turnrelay_allocations_refused_total{reason="allocation_exists"} == 1',
        'turnrelay_throttled_total{limit="unauthenticated"} > 0',
        'turnrelay_discarded_messages_total{reason="garbage"} >= 1',
        'turnrelay_discarded_messages_total{reason="unbound_channel"} >= 1',
        'turnrelay_traversal_reports_total{result="duplicate"} == 3',
        'turnrelay_traversal_reports_total{result="unauthorized"} == 1',
        "turnrelay_credentials_issued_total >= 7",
    ):
        prometheus.wait_for(expr)


def test_the_rates_are_those_of_what_happened(prometheus: Prometheus) -> None:
    """Four of five decided attempts connected, one of them without a relay."""
    prometheus.wait_for("abs(job:turnrelay_traversal_success:ratio1h - 0.8) < 0.05")
    prometheus.wait_for("abs(job:turnrelay_traversal_direct:ratio1h - 0.25) < 0.05")


@pytest.mark.parametrize("rule", rules("recording"), ids=lambda rule: rule["record"])
def test_a_recording_rule_records(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    prometheus.wait_for(rule["record"])


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    evaluated = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(rules("recording")) + len(rules("alerts"))
    assert {rule["health"] for rule in evaluated} == {"ok"}


@pytest.mark.parametrize("rule", rules("alerts"), ids=lambda rule: rule["alert"])
def test_what_an_alert_watches_is_there(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    """Without its threshold, so whether it fires or not."""
    for side in rule["expr"].split(" and "):
        watched = side.rpartition(" == ")[0] or side.rpartition(" < ")[0] or side.rpartition(" > ")[0]
        prometheus.wait_for(watched)


def test_the_variables_of_the_dashboards_have_values(prometheus: Prometheus, relay: TurnRelayServer) -> None:
    def listed(label: str) -> list[str]:
        return prometheus.get(f"label/{label}/values", **{"match[]": "turnrelay_build_info"})

    assert listed("job") == ["turnrelay"]
    assert listed("instance") == [f"{relay.site.address}:9641"]


def test_what_is_exported_is_documented_and_what_is_asked_for_is_exported(relay: TurnRelayServer) -> None:
    _, page = relay.get("/metrics")
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(page)
    }
    documented = (ROOT / "docs/metrics.md").read_text()
    assert not {name for name in exported if f"| `{name}` |" not in documented}
    asked = {name for query in queries() for name in metrics_in(query.expr)}
    assert asked <= exported


def test_promtool_has_nothing_to_say_against_the_page(relay: TurnRelayServer, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text(relay.get("/metrics")[1])
    promtool = require_program("promtool")
    assert run(["sh", "-c", f"{promtool} check metrics < {page}"], timeout=30) == ""


def test_the_page_stays_small(relay: TurnRelayServer) -> None:
    """Closed sets of labels: a few hundred series, whatever clients do."""
    _, page = relay.get("/metrics")
    series = [line for line in page.splitlines() if not line.startswith("#")]
    assert len(series) < 1000
