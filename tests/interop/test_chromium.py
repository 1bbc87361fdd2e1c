"""Debian's Chromium, headless: a page whose two peers may use relays only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interop import webrtc
from playwright.sync_api import Error, Page, sync_playwright
from support.netns import Namespace, inside
from support.processes import run
from support.relay import TRANSPORTS, Relay, Transport
from support.requirements import require_library, require_program

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-loopback-in-peer-connection",
)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_relayed_data_channel_echoes(
    transport: Transport, wired_subject: Relay, client_host: Namespace, tmp_path: Path
) -> None:
    tally = wired_subject.tally(transport)
    trust(wired_subject.site.certificates.authority, tmp_path)
    with chromium_page(client_host, home=tmp_path) as page:
        result = page.evaluate("request => relayEcho(request)", webrtc.request(wired_subject, transport))
    webrtc.assert_relayed_echo(result)
    assert [pair["relayProtocol"] for pair in result["pairs"]] == [transport] * 2
    tally.must_reach(webrtc.PAYLOAD_BYTES)


def test_a_relay_with_an_unknown_certificate_is_refused(
    wired_subject: Relay, client_host: Namespace, tmp_path: Path
) -> None:
    """So the `turns:` above was verified, and not let through."""
    with (
        chromium_page(client_host, home=tmp_path) as page,
        pytest.raises(Error, match=r"gave no candidate.*701 Failed to establish connection turns:"),
    ):
        page.evaluate("request => relayEcho(request)", webrtc.request(wired_subject, "tls"))


@contextmanager
def chromium_page(host: Namespace, home: Path) -> Iterator[Page]:
    """An empty page with relay_echo.js in it, of a browser that runs on the host with that home folder."""
    chromium = require_program("chromium")
    require_library("libatomic.so.1")
    with inside(host), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=FLAGS, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}
        )
        try:
            page = browser.new_page()
            page.add_script_tag(path=webrtc.SCRIPT)
            yield page
        finally:
            browser.close()


def trust(authority: Path, home: Path) -> None:
    """Put an authority where Chromium looks for those that its user added.

    Its own switch, --ignore-certificate-errors, covers TURN too, but nothing would be verified then.
    """
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = [require_program("certutil"), "-d", f"sql:{database}"]
    run([*certutil, "-N", "--empty-password"], timeout=20)
    run([*certutil, "-A", "-n", "tests", "-t", "C,,", "-i", authority], timeout=20)
