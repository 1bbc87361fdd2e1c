"""Failures that take a network of its own to provoke, and the advice that the page /test gives for them."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from support.browser import chromium
from support.netns import Namespace, Network
from support.relay import Site
from support.requirements import require_program, require_root_and_netns
from web.operated import OperatedRelay, card, page_of, run_test, verdicts

RELAY, CLIENT, WRONG = "10.77.0.1", "10.77.0.2", "10.77.0.99"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """A host for the relay and one for the browser, and a cable."""
    require_root_and_netns()
    with Network() as network:
        server, client = network.host("relay"), network.host("browser")
        network.connect(server, f"{RELAY}/24", client, f"{CLIENT}/24")
        yield server, client


@pytest.fixture(scope="module")
def wired_browser(hosts, tmp_path_factory) -> Iterator[Browser]:
    """It trusts none of the certificates here."""
    with chromium(tmp_path_factory.mktemp("home"), hosts[1]) as running:
        yield running


@pytest.fixture
def wired_context(wired_browser) -> Iterator[BrowserContext]:
    with contextlib.closing(wired_browser.new_context()) as context:
        yield context


@pytest.fixture
def wired_relay(hosts, tmp_path) -> Iterator[OperatedRelay]:
    with OperatedRelay(Site.prepare(tmp_path, RELAY, namespace=hosts[0])) as running:
        yield running


@pytest.fixture
def no_udp(hosts) -> Iterator[None]:
    """No UDP gets to the relay's port, as behind many a firewall."""
    nft = [*hosts[0].prefix, require_program("nft")]
    rules = "table inet wall { chain in { type filter hook input priority 0; udp dport 3478 drop; }; };"
    subprocess.run([*nft, "-f", "-"], input=rules.encode(), check=True, timeout=10)
    yield
    subprocess.run([*nft, "delete", "table", "inet", "wall"], check=True, timeout=10)


@pytest.mark.slow
def test_blocked_udp_and_a_certificate_that_nobody_trusts(wired_relay, wired_context, no_udp):
    page, _ = page_of(wired_context, wired_relay)
    run_test(page)
    udp, tcp, tls = verdicts(page)
    assert verdicts(page) == {udp: "fails", tcp: "works", tls: "fails"}
    expect(card(page, udp).locator(".advice-box")).to_contain_text("No UDP gets to the relay")
    expect(card(page, udp).locator(".advice-box")).to_contain_text("Open UDP port 3478")
    expect(card(page, tls).locator(".advice-box")).to_contain_text("Wrong certificate")
    expect(card(page, tcp).locator(".advice-box")).to_have_count(0)


@pytest.mark.slow
def test_a_wrong_external_address(hosts, wired_context, tmp_path):
    site = Site.prepare(tmp_path, RELAY, namespace=hosts[0])
    with OperatedRelay(site, flags=["--external-ip", WRONG]) as relay:
        page, _ = page_of(wired_context, relay)
        run_test(page)
        found = verdicts(page)
        assert found == dict.fromkeys(found, "fails")
        advice = card(page, f"turn:{WRONG}:3478?transport=tcp").locator(".advice-box")
        expect(advice).to_contain_text(f"start it with --external-ip {RELAY}")
