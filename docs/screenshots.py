"""Takes the pictures of the console and the test page for README.md, of a relay that real clients use.

Run by `make screenshots`; takes about two minutes. Needs Chromium and what else the tests need.
"""

import contextlib
import json
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize
from reliability.turn_peer import Peer, StreamClient
from stunwire import MethodAttempt, NatClass, Outcome, PathFamily, TraversalMethod, TraversalOutcome
from support.browser import chromium, trust
from support.ports import loopback_address
from support.relay import Site
from web.operated import OperatedRelay, log_in, open_page, page_of, run_test

IMAGES = Path(__file__).parent / "images"
CHANNEL = 0x4000
DESKTOP: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 375, "height": 812}
SECONDS = 75.0


def report(relay: OperatedRelay, outcome: Outcome) -> None:
    """One traversal, as an SDK reports it."""
    method = TraversalMethod.RELAY_UDP if outcome is Outcome.CONNECTED else TraversalMethod.NONE
    attempts = [MethodAttempt(TraversalMethod.SRFLX, Outcome.FAILED, PathFamily.IPV4)]
    if outcome is Outcome.CONNECTED:
        attempts.append(MethodAttempt(method, Outcome.CONNECTED, PathFamily.IPV4))
    record = TraversalOutcome(
        outcome,
        method,
        PathFamily.IPV4 if outcome is Outcome.CONNECTED else PathFamily.NONE,
        duration_ms=800,
        nat=NatClass.RESTRICTED,
        peer_nat=NatClass.SYMMETRIC,
        attempts=tuple(attempts),
    )
    token = relay.ask("POST", "/v1/credentials")["outcome_token"]
    relay.ask("POST", "/v1/outcomes", json.loads(record.as_json()), token)


def relay_until(stop: threading.Event, relay: OperatedRelay, clients: list[StreamClient], peer: Peer) -> None:
    """Traffic that comes and goes, an outcome now and then, and somebody with a wrong password."""
    started = time.monotonic()
    reported = guesses = 0
    while not stop.is_set():
        elapsed = time.monotonic() - started
        size = int(700 + 500 * math.sin(elapsed / 9))
        for number, client in enumerate(clients):
            client.send(CHANNEL, bytes(max(60, size - 90 * number)))
            peer.sock.recv(2000)
            peer.sock.sendto(bytes(max(60, size // 2)), tuple(client.relayed))
            client.frame()
        if elapsed > 2 * reported:
            report(relay, Outcome.FAILED if reported % 17 == 3 else Outcome.CONNECTED)
            reported += 1
        if elapsed > 20 * guesses:
            guesses += 1
            with contextlib.suppress(AssertionError):
                StreamClient((relay.site.address, relay.port), "2000000000:bob", "a wrong password")
        time.sleep(0.01)


@contextlib.contextmanager
def traffic(relay: OperatedRelay) -> Iterator[None]:
    """Clients relay in the background."""
    peer = Peer(relay.site.address)
    clients = [relay.client(f"user-{number}") for number in range(6)]
    for client in clients:
        client.bind(CHANNEL, peer.address)
    stop = threading.Event()
    relaying = threading.Thread(target=relay_until, args=(stop, relay, clients, peer))
    relaying.start()
    try:
        yield
    finally:
        stop.set()
        relaying.join()
        for end in (*clients, peer):
            end.close()


def picture_of_console(browser: Browser, relay: OperatedRelay, name: str, **look: object) -> None:
    with contextlib.closing(browser.new_context(**look)) as context:  # type: ignore[arg-type]
        page, _ = open_page(context, relay.url)
        log_in(page)
        page.locator("#live tbody tr").first.wait_for()
        page.wait_for_timeout(2500)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=IMAGES / f"{name}.png")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, loopback_address() as address:
        home = Path(folder, "home")
        site = Site.prepare(Path(folder, "relay"), address)
        trust(site.certificates.authority, home)
        with OperatedRelay(site) as relay, chromium(home) as browser:
            with traffic(relay):
                time.sleep(SECONDS)
                picture_of_console(browser, relay, "console", viewport=DESKTOP, color_scheme="light")
                picture_of_console(browser, relay, "console-dark", viewport=DESKTOP, color_scheme="dark")
                picture_of_console(browser, relay, "console-phone", viewport=PHONE, color_scheme="light")
            with contextlib.closing(browser.new_context(viewport={"width": 1280, "height": 640})) as context:
                page, _ = page_of(context, relay)
                run_test(page)
                page.screenshot(path=IMAGES / "test-page.png")


if __name__ == "__main__":
    main()
