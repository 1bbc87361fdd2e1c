"""`turnrelay health`, by which containers ask whether their relay is well."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from reliability.upgradable import OPEN, UpgradableRelay
from reliability.workers import eventually
from support.turnrelay_server import TurnRelayServer

pytestmark = pytest.mark.slow

TURNRELAY = Path(sys.executable).with_name("turnrelay")


def health(site, http: str = "127.0.0.1:1") -> tuple[int, str]:
    """Its status and what it says, knowing the data directory, and of the HTTP side what the settings say."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNRELAY_")}
    argv = [TURNRELAY, "health", "--data-dir", site.folder / "data"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env={**environment, "TURNRELAY_HTTP": http}
    )
    return done.returncode, done.stdout + done.stderr


def test_a_relay_is_well_while_it_answers_wherever_flags_told_it_to(site):
    with TurnRelayServer(site, OPEN) as relay:
        assert health(site) == (0, f"The relay (process {relay.process.pid}) is well.\n")
        relay.process.signal(signal.SIGSTOP)
        try:
            status, output = health(site)
        finally:
            relay.process.signal(signal.SIGCONT)
        assert status == 1
        assert f"http://{site.address}:9641/healthz: " in output
    status, output = health(site)
    assert (status, "no relay runs with the data directory" in output) == (1, True)


def test_the_process_after_an_upgrade_is_asked(site):
    with UpgradableRelay(site, OPEN) as relay:
        relay.upgrade()
        assert health(site) == (0, f"The relay (process {relay.pid}) is well.\n")


def test_without_an_http_side_it_is_enough_to_run(site):
    class WithoutHttp(TurnRelayServer):
        def get(self, path):
            return (200, "") if "Data directory" in self.process.output() else (503, "")

    with WithoutHttp(site, OPEN, flags=["--http", "off"]) as relay:
        assert health(site) == (0, f"The relay (process {relay.process.pid}) is well.\n")


def test_a_relay_that_could_write_no_file_is_asked_where_the_settings_have_it(site):
    (site.folder / "data" / "pid").mkdir(mode=0o700, parents=True)
    with TurnRelayServer(site, OPEN):
        http = f"{site.address}:9641"
        assert health(site, http) == (0, f"The relay at {http} is well.\n")
        assert health(site)[0] == 1


def test_the_next_process_has_the_file_that_the_first_could_not_get(site):
    (site.folder / "data").mkdir(mode=0o700, parents=True)
    with (site.folder / "data" / "pid").open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        with UpgradableRelay(site, OPEN) as relay:
            eventually(lambda: "Data directory" in relay.log(), "it still tries to get the file")
            fcntl.flock(taken, fcntl.LOCK_UN)
            relay.process.signal(signal.SIGUSR2)
            eventually(lambda: os.fstat(taken.fileno()).st_size > 0, "nobody took the file")
            assert relay.pid != relay.process.pid
            assert health(site) == (0, f"The relay (process {relay.pid}) is well.\n")
