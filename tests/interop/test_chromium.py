"""Debian's Chromium, headless: a page whose two peers may use relays only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interop import webrtc
from playwright.sync_api import Error, Page
from support.browser import chromium, trust
from support.netns import Namespace
from support.relay import TRANSPORTS, Relay, Transport


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
    with chromium(home, host) as browser:
        page = browser.new_page()
        page.add_script_tag(path=webrtc.SCRIPT)
        yield page
