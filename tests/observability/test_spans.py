"""Allocations as OpenTelemetry traces, received as OTLP's own schema reads them."""

import subprocess
import sys
from pathlib import Path

import pytest
from observability.collector import Collector, attributes_of
from reliability.turn_peer import DatagramClient, StreamClient
from reliability.upgradable import OPEN, UpgradableRelay
from reliability.workers import RelayOfTwo, eventually, succeeded
from stunwire import ERROR_CODE, REQUESTED_TRANSPORT, Method, TransportAddress
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

ACCESS = Access()
WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from turnrelay.settings import Settings
from turnrelay.watch import Watch
from turnrelay.policy.errors import OperatorError
Watch(Settings(), ("self-test", "word"))
try:
    Watch(Settings(otlp_endpoint="http://127.0.0.1:4318"), ("self-test", "word"))
except OperatorError as error:
    print(error)
"""


def test_allocations_arrive_as_spans_with_what_happened_to_them(tmp_path: Path) -> None:
    with loopback_address() as address, Collector(address) as collector:
        site = Site.prepare(tmp_path, address)
        flags = ["--otlp-endpoint", f"http://{address}:4318", "--log-format", "json"]
        with TurnRelayServer(site, ACCESS, flags=flags) as relay:
            server = (address, relay.port)
            client = StreamClient(server, ACCESS.username, ACCESS.password)
            client.bind(0x4000, TransportAddress("10.0.0.1", 53))
            client.refresh(0)
            client.request(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6))
            client.close()
            left_open = StreamClient(server, ACCESS.username, ACCESS.password)
        left_open.close()
        log = relay.process._final_output
    by_reason = {
        attributes.get("turnrelay.end.reason") or attributes.get("turnrelay.refusal.reason"): span
        for span in collector.spans
        if (attributes := attributes_of(span))
    }
    # The self-test's allocation is not among them.
    assert len(collector.spans) == 3
    assert set(by_reason) == {"deleted", "relayed_transport", "shutdown"}
    assert {span.name for span in collector.spans} == {"allocation"}
    ended = by_reason["deleted"]
    assert attributes_of(ended)["turnrelay.client.transport"] == "tcp"
    assert attributes_of(ended)["turnrelay.allocation.id"] in log
    assert ended.start_time_unix_nano < ended.end_time_unix_nano
    [event] = ended.events
    assert (event.name, attributes_of(event)) == ("peer denied", {"reason": "special_purpose"})
    assert attributes_of(by_reason["relayed_transport"])["turnrelay.refusal.code"] == 442
    assert collector.resources[0]["service.name"] == "turnrelay"
    for secret in (ACCESS.username, "10.0.0.1"):
        assert all(secret not in str(span) for span in collector.spans)


def test_the_allocation_of_a_worker_that_was_killed_has_its_span(tmp_path: Path) -> None:
    with loopback_address() as address, Collector(address) as collector:
        flags = ["--otlp-endpoint", f"http://{address}:4318"]
        with RelayOfTwo(Site.prepare(tmp_path / "relay", address), ACCESS, flags=flags) as relay:
            client = StreamClient((address, relay.port), ACCESS.username, ACCESS.password)
            relay.kill(relay.acceptor_of(client.sock.getsockname()))
            client.close()
    [span] = collector.spans
    attributes = attributes_of(span)
    assert attributes["turnrelay.end.reason"] == "worker_lost"
    assert attributes["turnrelay.client.transport"] == "tcp"
    assert span.start_time_unix_nano < span.end_time_unix_nano


def test_an_allocation_that_is_handed_over_has_one_span_which_tells_its_end(tmp_path: Path) -> None:
    with loopback_address() as address, Collector(address) as collector:
        flags = ["--otlp-endpoint", f"http://{address}:4318"]
        with UpgradableRelay(Site.prepare(tmp_path / "relay", address), OPEN, flags=flags) as relay:
            client = DatagramClient((address, relay.port), OPEN.username, OPEN.password)
            assert succeeded(client.allocate())
            relay.upgrade()
            eventually(lambda: relay.process.returncode == 0, "the first process stays")
            assert succeeded(client.refresh(0))
            client.close()
            eventually(lambda: bool(collector.spans), "no span comes")
    [span] = collector.spans
    attributes = attributes_of(span)
    assert attributes["turnrelay.end.reason"] == "deleted"
    assert attributes["turnrelay.client.transport"] == "udp"
    assert span.start_time_unix_nano < span.end_time_unix_nano


def test_a_collector_that_is_gone_costs_a_line_in_the_log_and_no_service(tmp_path: Path) -> None:
    with loopback_address() as address:
        flags = ["--otlp-endpoint", f"http://{address}:4318", "--log-format", "json"]
        with TurnRelayServer(Site.prepare(tmp_path, address), ACCESS, flags=flags) as relay:
            client = StreamClient((address, relay.port), ACCESS.username, ACCESS.password)
            answer = client.refresh(0)
            client.close()
        assert ERROR_CODE not in answer
        assert relay.process.returncode == 0
        assert "spans are not exported" in relay.process._final_output
        assert "Traceback" not in relay.process._final_output


def test_without_the_extra_the_operator_is_told_what_to_install() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "install turnrelay with its extra otel" in printed


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://", "4318"])
def test_an_endpoint_that_is_no_url_is_refused(url: str) -> None:
    from pydantic import ValidationError
    from turnrelay.settings import Settings

    with pytest.raises(ValidationError, match="is no URL of the form"):
        Settings(otlp_endpoint=url)
