"""One relay on loopback and one browser that trusts its certificate, for all that need no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from support.browser import chromium, trust
from support.ports import loopback_address
from support.relay import Site
from web.operated import OperatedRelay

SHARED_PORT = 8443
# Patience costs nothing where all is well.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="session")
def relay(folder: Path) -> Iterator[OperatedRelay]:
    with loopback_address() as address:
        site = Site.prepare(folder / "relay", address)
        with OperatedRelay(site, flags=["--shared", f"{address}:{SHARED_PORT}"]) as running:
            yield running


@pytest.fixture(scope="module")
def browser(relay: OperatedRelay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Of a module, since one process can drive no browser in a second place meanwhile."""
    home = tmp_path_factory.mktemp("home")
    trust(relay.site.certificates.authority, home)
    with chromium(home) as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used before."""
    fresh = browser.new_context(viewport={"width": 1280, "height": 900})
    fresh.set_default_timeout(20_000)
    yield fresh
    fresh.close()
