"""The page /test in a real browser: every URI of a running relay, and advice for each way to fail."""

import contextlib
import re
import time

import pytest
from playwright.sync_api import Route, expect
from support.certificates import Certificates
from support.ports import loopback_address
from support.relay import Site
from web.operated import OperatedRelay, card, log_in, open_page, page_of, run_test, verdicts, wait_for_the_end

# -- what works -------------------------------------------------------------------------------------------


def test_every_uri_of_a_relay_passes_with_relayed_data(relay, context):
    page, complaints = page_of(context, relay)
    before = relay.scrape()
    run_test(page)
    address = relay.site.address
    uris = [
        f"turn:{address}:3478?transport=udp",
        f"turn:{address}:3478?transport=tcp",
        f"turns:{address}:5349?transport=tcp",
        f"turns:{address}:8443?transport=tcp",
    ]
    assert verdicts(page) == dict.fromkeys(uris, "works")
    expect(page.locator("#summary")).to_have_text("4 of 4 ways to the relay work.")
    for uri in uris:
        figures = card(page, uri).locator("dd").all_inner_texts()
        assert re.fullmatch(rf"{re.escape(address)} port \d+", figures[0])
        assert re.fullmatch(r"[\d.]+ ms", figures[1])
        assert re.fullmatch(r"[\d.]+ %", figures[2])
        assert re.fullmatch(r"[\d.]+ (k|M|G)bit/s", figures[3])
        expect(card(page, uri).locator(".advice-box")).to_have_count(0)
    after = relay.scrape()
    for transport in ("udp", "tcp", "tls"):
        relayed = [
            page.total("turnrelay_relayed_bytes_total", transport=transport) for page in (before, after)
        ]
        assert relayed[1] - relayed[0] > 100_000, f"little was relayed over {transport}"
    deadline = time.monotonic() + 10
    while relay.session_ids():
        assert time.monotonic() < deadline, "sessions of the test live on"
        page.wait_for_timeout(200)
    assert complaints.heard == []


# -- who may test -----------------------------------------------------------------------------------------


def test_a_stranger_is_sent_to_the_console(relay, context):
    page, complaints = open_page(context, f"{relay.url}/test")
    expect(page.locator("#refused")).to_contain_text("Only the operator may run the test")
    expect(page.get_by_role("button", name="Start the test")).to_be_disabled()
    page.get_by_role("link", name="log in on the console").click()
    log_in(page)
    page.get_by_role("link", name="Test").click()
    expect(page.get_by_role("button", name="Start the test")).to_be_enabled()
    assert complaints.heard == []


def test_an_open_page_is_for_everybody_by_keyboard_and_on_a_phone(browser, folder):
    phone = {"width": 375, "height": 700}
    with (
        loopback_address() as address,
        OperatedRelay(Site.prepare(folder / "open", address), flags=["--test-page", "open"]) as relay,
        contextlib.closing(browser.new_context(viewport=phone)) as context,
    ):
        page, complaints = open_page(context, f"{relay.url}/test")
        page.locator("#start:enabled").wait_for()
        for _ in range(8):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "start":
                break
        page.keyboard.press("Enter")
        wait_for_the_end(page)
        assert verdicts(page)[f"turn:{address}:3478?transport=udp"] == "works"
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert complaints.heard == []


# -- advice for failures that are provoked on loopback ------------------------------------------------------


def test_a_certificate_for_another_host(browser, folder):
    with loopback_address() as address, loopback_address() as other:
        site = Site.prepare(folder / "renamed", address)
        certificates = Certificates.issue(_made(folder / "renamed" / "other"), other)
        flags = ["--tls-cert", str(certificates.chain), "--tls-key", str(certificates.key)]
        with (
            OperatedRelay(site, flags=flags) as relay,
            contextlib.closing(browser.new_context()) as context,
        ):
            page, _ = page_of(context, relay)
            run_test(page)
            advice = card(page, f"turns:{address}:5349?transport=tcp").locator(".advice-box")
            expect(advice).to_contain_text(f"The certificate is for {other} and not for {address}")


def _made(folder):
    folder.mkdir(parents=True)
    return folder


def test_a_credential_that_is_refused(relay, context):
    def spoil(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "credential": "of another relay"})

    context.route(
        "**/v1/test", lambda route: spoil(route) if route.request.method == "POST" else route.continue_()
    )
    page, _ = page_of(context, relay)
    run_test(page)
    assert set(verdicts(page).values()) == {"fails"}
    expect(page.locator(".advice-box").first).to_contain_text("refused the credential")


def test_a_relay_without_a_shared_secret_says_so(browser, folder):
    with loopback_address() as address, contextlib.closing(browser.new_context()) as context:
        site = Site.prepare(folder / "static", address)
        with OperatedRelay(site, shared_secret=None) as relay:
            page, _ = page_of(context, relay)
            page.get_by_role("button", name="Start the test").click()
            expect(page.get_by_role("alert")).to_contain_text("no shared secret")


# -- advice, as a table -------------------------------------------------------------------------------------

FACTS = {
    "certificate": {"names": ["relay.example"], "expires_at": 2_000_000_000},
    "relay_addresses_private": False,
}
UDP, TCP, TLS = (
    "turn:192.0.2.1:3478",
    "turn:192.0.2.1:3478?transport=tcp",
    "turns:relay.example:5349?transport=tcp",
)


def failed(uri: str, code: int = 701, stage: str = "gathering", **more: object) -> dict[str, object]:
    return {
        "uri": uri,
        "stage": stage,
        "errors": [{"errorCode": code, "errorText": ""}],
        "lossShare": None,
        **more,
    }


def passed(uri: str, loss: float = 0.0) -> dict[str, object]:
    return {"uri": uri, "stage": "passed", "errors": [], "lossShare": loss}


@pytest.mark.parametrize(
    ("results", "facts", "host", "says"),
    [
        ([passed(UDP)], {}, "192.0.2.1", None),
        ([passed(UDP, 0.2)], {}, "192.0.2.1", "packets are lost"),
        ([passed(UDP)], {"relay_addresses_private": True}, "198.51.100.1", "Set --external-ip"),
        ([passed(UDP)], {"relay_addresses_private": True}, "127.0.0.1", None),
        ([failed(UDP, 401)], {}, "192.0.2.1", "refused the credential"),
        ([failed(UDP, 403)], {}, "192.0.2.1", "refuses clients that come from"),
        ([failed(UDP, 486)], {}, "192.0.2.1", "limits.allocations_per_user"),
        ([failed(UDP, 508)], {}, "192.0.2.1", "min_port to max_port"),
        ([failed(UDP), passed(TCP)], {}, "192.0.2.1", "No UDP gets to the relay"),
        ([failed(TCP), passed(UDP)], {}, "192.0.2.1", "TCP port 3478"),
        ([failed(UDP), failed(TCP)], {}, "192.0.2.1", "Nothing answers at 192.0.2.1"),
        ([failed(UDP), failed(TCP)], {}, "198.51.100.1", "start it with --external-ip 198.51.100.1"),
        ([failed(UDP), failed(TCP)], {}, "127.0.0.1", "Nothing answers at 192.0.2.1"),
        ([failed(UDP, stage="connecting")], {}, "192.0.2.1", "no data passes"),
        ([failed(UDP, stage="measuring")], {}, "192.0.2.1", "then stopped"),
        ([failed(TLS)], {}, "192.0.2.1", "Nothing answers at relay.example port 5349"),
        (
            [failed(TLS)],
            {"certificate": {"names": ["old.example"], "expires_at": 2e9}},
            "x",
            "for old.example",
        ),
        ([failed(TLS)], {"certificate": {"names": [], "expires_at": 1e9}}, "x", "expired on 2001-09-09"),
    ],
)
def test_advice(relay, context, results, facts, host, says):
    page, _ = open_page(context, f"{relay.url}/test")
    around = {"results": results, "facts": FACTS | facts, "pageHost": host, "now": 1_800_000_000}
    advice = page.evaluate(
        "async ([result, around]) => (await import('/static/advice.js')).advise(result, around)",
        [results[0], around],
    )
    assert (advice is None) if says is None else (says in advice)


def test_an_address_of_ipv6_is_taken_apart(relay, context):
    page, _ = open_page(context, f"{relay.url}/test")
    parts = page.evaluate(
        "async () => (await import('/static/advice.js')).partsOf('turns:[2001:db8::1]:443?transport=tcp')"
    )
    assert parts == {"host": "2001:db8::1", "port": "443", "over": "tls"}
