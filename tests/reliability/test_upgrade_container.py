"""An upgrade where the container would end with the process that it replaces."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reliability.upgradable import OPEN
from support.requirements import require_program, require_root_and_netns
from support.turnrelay_server import TurnRelayServer

pytestmark = pytest.mark.slow

TURNRELAY = Path(sys.executable).with_name("turnrelay")


class Contained(TurnRelayServer):
    """In a pid namespace of its own, as process 1 or behind an init."""

    def __init__(self, site, *init: str) -> None:
        super().__init__(site, OPEN)
        self._init = init

    def _argv(self):
        contain = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        return [*contain, *self._init, *super()._argv()]


def upgrade(relay: Contained) -> subprocess.CompletedProcess[str]:
    """As `docker exec` does it."""
    children = f"/proc/{relay.process.pid}/task/{relay.process.pid}/children"
    init = Path(children).read_text().split()[0]
    data = relay.site.folder / "data"
    argv = ["nsenter", "--target", init, "--pid", "--mount", TURNRELAY, "upgrade", "--data-dir", data]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=dict(os.environ))


@pytest.mark.parametrize(
    ("init", "says"),
    [
        ((), "process 1 goes on, a container ends with its process 1"),
        (("tini", "--"), "goes on, tini, and with it the container, ends with the command that it started"),
    ],
    ids=["process 1", "behind tini"],
)
def test_it_is_refused_and_the_relay_goes_on(site, init, says):
    require_root_and_netns()
    if init:
        require_program(init[0])
    with Contained(site, *init) as relay:
        done = upgrade(relay)
        assert done.returncode == 1
        assert says in done.stderr
        assert relay.get("/readyz")[0] == 200


def test_another_parent_of_the_same_namespace_is_no_hindrance(site):
    """Process 1 is one that stays, here a shell; what keeps the test above from refusing everything."""
    require_root_and_netns()
    with Contained(site, "sh", "-c", '"$@"; sleep 60', "sh") as relay:
        done = upgrade(relay)
        assert (done.returncode, done.stderr) == (0, "")
        assert relay.get("/readyz")[0] == 200
