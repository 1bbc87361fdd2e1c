"""A running relay and its operator, and pages of it in a browser that must not complain."""

import http.client
import json
import re
import time
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect
from reliability.turn_peer import StreamClient
from support.netns import inside
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

HTTP_PORT = 9641
TOKEN = "the-token-of-the-operator"
SECRET = "north-north-north-north"


class OperatedRelay(TurnRelayServer):
    """A relay with a known token; `lines` are added to its settings file."""

    def __init__(
        self,
        site: Site,
        *,
        lines: Sequence[str] = (),
        flags: Sequence[str] = (),
        shared_secret: str | None = SECRET,
    ) -> None:
        file = site.folder / "turnrelay.toml"
        # Its own allocations would be among those that a test counts.
        text = [f'operator_token = "{TOKEN}"', *lines, "[limits]", "self_test_seconds = 0"]
        file.write_text("\n".join(text))
        file.chmod(0o600)
        access = Access(shared_secret=shared_secret, allowed_peers=("127.0.0.0/8",))
        super().__init__(site, access, flags=["--config", str(file), *flags])

    @property
    def url(self) -> str:
        return f"http://{self.site.address}:{HTTP_PORT}"

    def ask(self, method: str, path: str, body: object = None, token: str = TOKEN) -> Any:
        """The JSON that whoever has the token gets: the operator, unless it is another one."""
        connection = http.client.HTTPConnection(self.site.address, HTTP_PORT, timeout=10)
        try:
            with inside(self.site.namespace):
                connection.connect()
            headers = {"Authorization": f"Bearer {token}"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            text = connection.getresponse().read()
            return json.loads(text) if text else None
        finally:
            connection.close()

    def client(self, name: str = "alice") -> StreamClient:
        """Somebody who relays, over TCP."""
        minted = self.ask("POST", "/v1/credentials", {"name": name})
        server = (self.site.address, self.port)
        with inside(self.site.namespace):
            return StreamClient(server, minted["username"], minted["password"])

    def session_ids(self) -> set[str]:
        return {session["id"] for session in self.ask("GET", "/v1/sessions")["sessions"]}

    def only_session(self) -> str:
        """The id of the one live session, once those before it have ended."""
        deadline = time.monotonic() + 20
        while len(ids := self.session_ids()) != 1:
            assert time.monotonic() < deadline, ids
            time.sleep(0.05)
        return ids.pop()


class Complaints:
    """What the browser has to say about a page: errors of scripts, of the policy, of requests."""

    def __init__(self, page: Page) -> None:
        self.heard: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.heard.append(str(error)))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.heard.append(message.text)


def open_page(context: BrowserContext, url: str) -> tuple[Page, Complaints]:
    page = context.new_page()
    complaints = Complaints(page)
    page.goto(url)
    return page, complaints


def log_in(page: Page, token: str = TOKEN) -> None:
    page.get_by_label("Operator token").fill(token)
    page.get_by_role("button", name="Log in").click()


# -- the page /test -----------------------------------------------------------------------------------------


def run_test(page: Page) -> None:
    """Starts the test and waits until it is over."""
    page.get_by_role("button", name=re.compile("^(Start the test|Test again)$")).click()
    wait_for_the_end(page)


def wait_for_the_end(page: Page) -> None:
    expect(page.locator("#summary")).to_contain_text("ways to the relay work", timeout=60_000)


def card(page: Page, uri: str) -> Locator:
    return page.locator(f'[data-uri="{uri}"]')


def page_of(context: BrowserContext, relay: OperatedRelay) -> tuple[Page, Complaints]:
    """The page, for a browser that is logged in."""
    context.request.post(f"{relay.url}/v1/login", data={"token": TOKEN})
    return open_page(context, f"{relay.url}/test")


def verdicts(page: Page) -> dict[str, str]:
    """What became of each URI."""
    cards = page.locator("[data-uri]").all()
    return {one.get_attribute("data-uri"): one.locator(".verdict").inner_text() for one in cards}
