"""Debian's Chromium, headless, and the authorities that it trusts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from support.netns import Namespace, inside
from support.processes import run
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


@contextmanager
def chromium(home: Path, host: Namespace | None = None) -> Iterator[Browser]:
    """A browser that runs on the host with that home folder."""
    program = require_program("chromium")
    require_library("libatomic.so.1")
    with inside(host), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=FLAGS, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}
        )
        try:
            yield browser
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
