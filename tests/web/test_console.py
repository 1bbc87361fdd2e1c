"""The console in a real browser, while real clients relay."""

import contextlib
import re
import signal
import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from reliability.turn_peer import Peer, StreamClient
from stunwire import MethodAttempt, NatClass, Outcome, PathFamily, TraversalMethod, TraversalOutcome
from support.ports import loopback_address
from support.relay import Site
from web.operated import OperatedRelay, log_in, open_page

CHANNEL = 0x4000


@pytest.fixture
def client(relay: OperatedRelay) -> Iterator[StreamClient]:
    client = relay.client()
    yield client
    client.close()


@pytest.fixture
def peer(relay: OperatedRelay) -> Iterator[Peer]:
    peer = Peer(relay.site.address)
    yield peer
    peer.close()


def row_of(page: Page, session: str):
    return page.locator(f'#live tbody tr[data-id="{session}"]')


def focused(page: Page) -> str:
    """The name or id of what has the focus."""
    name = "(e => e.getAttribute('aria-label') || e.id || e.textContent)(document.activeElement)"
    return page.evaluate(name)


# -- logging in -------------------------------------------------------------------------------------------


def test_a_wrong_token_is_told_and_the_right_one_opens_the_board(relay, context):
    page, complaints = open_page(context, relay.url)
    log_in(page, "not the operator's token")
    expect(page.get_by_role("alert")).to_have_text("This is not the operator's token.")
    expect(page.locator("#board")).to_be_hidden()
    [refused] = complaints.heard
    assert "401" in refused
    log_in(page)
    expect(page.get_by_role("heading", name="Live sessions")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Taking clients")
    page.reload()
    expect(page.get_by_role("heading", name="Live sessions")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Operator token")).to_be_focused()
    page.reload()
    expect(page.get_by_label("Operator token")).to_be_visible()
    # A request that is under way while the operator logs out is refused, too.
    assert set(complaints.heard) == {refused}


# -- live figures -----------------------------------------------------------------------------------------


def test_figures_and_charts_follow_a_client_that_relays(relay, context, client, peer):
    page, complaints = open_page(context, relay.url)
    log_in(page)
    session = relay.only_session()
    row = row_of(page, session)
    expect(row).to_contain_text("TCP, IPv4")
    expect(page.locator("#sessions-now")).to_have_text("1")
    line = page.locator("#traffic-chart path.line.first")
    before = line.get_attribute("d")
    client.bind(CHANNEL, peer.address)
    deadline = time.monotonic() + 20
    while not re.search(r"[1-9][\d.]* (k|M)bit/s", page.locator("#traffic-now").inner_text()):
        assert time.monotonic() < deadline, "the throughput stays at nothing"
        for _ in range(20):
            client.send(CHANNEL, bytes(1000))
            assert len(peer.sock.recv(2000)) == 1000
        page.wait_for_timeout(20)
    assert line.get_attribute("d") not in (None, "", before)
    heights = {point.split(",")[1] for point in line.get_attribute("d").strip("M").split("L")}
    assert len(heights) > 1, "the chart is flat"
    expect(row.locator("td").nth(3)).to_have_text(re.compile("^[1-9].* kB|MB$"))
    expect(page.get_by_role("img", name=re.compile("to peers .* from peers"))).to_be_visible()
    assert complaints.heard == []


def test_a_failure_is_shown_with_its_reason_and_advice(relay, context):
    page, complaints = open_page(context, relay.url)
    log_in(page)
    minted = relay.ask("POST", "/v1/credentials")
    with pytest.raises(AssertionError):
        StreamClient((relay.site.address, relay.port), minted["username"], "a wrong password")
    item = page.get_by_role("listitem").filter(has_text="Wrong password")
    expect(item).to_contain_text("shared secret")
    assert complaints.heard == []


def test_traversals_that_clients_report_are_a_rate_of_success(relay, context):
    token = relay.ask("POST", "/v1/credentials")["outcome_token"]
    page, complaints = open_page(context, relay.url)
    log_in(page)
    expect(page.locator("#success-count")).to_have_text("no reports yet")
    host = MethodAttempt(TraversalMethod.HOST, Outcome.CONNECTED, PathFamily.IPV4)
    record = TraversalOutcome(
        Outcome.CONNECTED,
        TraversalMethod.HOST,
        PathFamily.IPV4,
        duration_ms=20,
        nat=NatClass.OPEN,
        peer_nat=NatClass.OPEN,
        attempts=(host,),
    )
    answer = context.request.post(
        f"{relay.url}/v1/outcomes", data=record.as_json(), headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status == 204, answer.text()
    expect(page.locator("#success-now")).to_have_text("100 %")
    assert complaints.heard == []


# -- ending a session -------------------------------------------------------------------------------------


def test_ending_a_session_really_ends_it(relay, context, client):
    page, complaints = open_page(context, relay.url)
    log_in(page)
    session = relay.only_session()
    page.get_by_role("button", name=f"End session {session}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(session)
    dialog.get_by_role("button", name="Keep it").click()
    assert relay.session_ids() == {session}
    page.get_by_role("button", name=f"End session {session}").click()
    dialog.get_by_role("button", name="End session").click()
    expect(page.locator("#news")).to_have_text(f"Session {session} has ended.")
    expect(row_of(page, session)).to_have_count(0)
    expect(page.locator("#live-empty")).to_be_visible()
    assert relay.session_ids() == set()
    refusal = client.refresh(600)
    assert "437" in str(refusal.attributes)
    assert complaints.heard == []


def test_everything_can_be_done_by_keyboard(relay, context, client):
    page, complaints = open_page(context, relay.url)
    expect(page.get_by_label("Operator token")).to_be_focused()
    page.keyboard.type("the-token-of-the-operator")
    page.keyboard.press("Enter")
    session = relay.only_session()
    expect(row_of(page, session)).to_be_visible()
    seen = []
    while not seen or seen[-1] != f"End session {session}":
        assert len(seen) < 12, f"the button is not reached: {seen}"
        page.keyboard.press("Tab")
        seen.append(focused(page))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", f"the focus on {seen[-1]} is not to be seen"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert focused(page) == f"End session {session}"
    page.wait_for_timeout(2500)  # the next figures
    assert focused(page) == f"End session {session}"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "End session"
    page.keyboard.press("Enter")
    expect(row_of(page, session)).to_have_count(0)
    assert relay.session_ids() == set()
    assert complaints.heard == []


# -- how it looks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_right_for_assistive_programs_in_light_and_dark(relay, browser: Browser, client, scheme):
    with contextlib.closing(browser.new_context(color_scheme=scheme)) as context:
        page, complaints = open_page(context, relay.url)
        page.get_by_label("Operator token").wait_for()
        violations = {"login": Axe().run(page).response["violations"]}
        log_in(page)
        page.locator("#live tbody tr").first.wait_for()
        violations["board"] = Axe().run(page).response["violations"]
        page.goto(f"{relay.url}/test")
        page.locator("#start:enabled").wait_for()
        violations["test"] = Axe().run(page).response["violations"]
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) == (scheme == "dark")
    faults = [
        (where, fault["id"], [node["html"] for node in fault["nodes"]])
        for where, found in violations.items()
        for fault in found
    ]
    assert faults == []
    assert complaints.heard == []


@pytest.mark.parametrize("width", [320, 375, 768])
def test_no_page_is_wider_than_the_screen(relay, browser: Browser, client, width):
    with contextlib.closing(browser.new_context(viewport={"width": width, "height": 700})) as context:
        page, complaints = open_page(context, relay.url)
        log_in(page)
        page.locator("#live tbody tr").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_by_role("button", name="End session").first.is_visible()
        page.goto(f"{relay.url}/test")
        page.get_by_role("button", name="Start the test").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints.heard == []


def test_nothing_moves_when_figures_come(relay, context, client):
    page, _ = open_page(context, relay.url)
    log_in(page)
    page.locator("#live tbody tr").first.wait_for()
    shifted = page.evaluate(
        """() => new Promise((resolve) => {
            let total = 0;
            new PerformanceObserver((list) => list.getEntries().forEach((entry) => { total += entry.value; }))
              .observe({ type: "layout-shift" });
            setTimeout(() => resolve(total), 5000);
        })"""
    )
    assert shifted < 0.01


# -- what it is made of -----------------------------------------------------------------------------------


def test_the_policy_lets_nothing_but_the_files_of_the_relay_run(relay, context):
    page, _ = open_page(context, relay.url)
    ran = page.evaluate(
        """async () => {
            const tried = {};
            try {
              const script = document.createElement("script");
              script.textContent = "window.injected = true";
              document.body.append(script);
            } catch { /* trusted types */ }
            tried.script = window.injected === true;
            try {
              document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.handled = true'>");
            } catch { /* trusted types */ }
            await new Promise((resolve) => setTimeout(resolve, 300));
            tried.handler = window.handled === true;
            tried.elsewhere = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
            return tried;
        }"""
    )
    assert ran == {"script": False, "handler": False, "elsewhere": False}
    policy = context.request.get(relay.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_files_are_asked_for_again_and_sent_only_when_they_changed(relay, context):
    script = f"{relay.url}/static/console.js"
    first = context.request.get(script)
    again = context.request.get(script, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status, again.status) == (200, 304)
    assert context.request.get(f"{relay.url}/static/console.html").status == 404


# -- a relay that goes and comes ---------------------------------------------------------------------------


def test_a_relay_that_goes_is_told_and_one_that_comes_back_asks_for_the_token(browser, folder):
    with loopback_address() as address:
        site = Site.prepare(folder / "restarted", address)
        with contextlib.closing(browser.new_context()) as context:
            with OperatedRelay(site) as relay:
                page, _ = open_page(context, relay.url)
                log_in(page)
                expect(page.locator("#state")).to_have_text("Taking clients")
                relay.process.signal(signal.SIGKILL)
                expect(page.locator("#state")).to_contain_text("No connection to the relay")
            with OperatedRelay(site):
                expect(page.get_by_label("Operator token")).to_be_visible(timeout=20_000)
                log_in(page)
                expect(page.locator("#state")).to_have_text("Taking clients")


def test_names_and_addresses_are_shown_where_the_operator_asks_for_them(browser, folder):
    with loopback_address() as address, contextlib.closing(browser.new_context()) as context:
        site = Site.prepare(folder / "full", address)
        with OperatedRelay(site, flags=["--session-details", "full"]) as relay:
            client = relay.client("alice")
            host, port = client.sock.getsockname()
            page, complaints = open_page(context, relay.url)
            log_in(page)
            expect(page.locator("#live tbody tr")).to_contain_text(f"alice from {host}:{port}")
            client.close()
        assert complaints.heard == [] or "ERR_" in complaints.heard[0]
