"""The relay under the user and the capabilities that deploy/ gives its containers."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from deploy.dockerfile import instructions
from support.native import build_kernel_program
from support.netns import Namespace, Network
from support.processes import Process, run
from support.requirements import require_program, require_root_and_netns

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TURNRELAY = Path(sys.executable).with_name("turnrelay")
IMAGE = dict(instructions((DEPLOY / "Dockerfile").read_text()))["USER"]
USER, GROUP = map(int, IMAGE.split(":"))
ADDRESS = "10.88.7.1"
PATIENCE = 60
KERNEL_PLANE = yaml.safe_load((DEPLOY / "compose.kernel-plane.yaml").read_text())["services"]["relay"]


def contained(user: str, capabilities: Sequence[str], *argv: str | Path) -> list[str | Path]:
    """The command as a container's process: this USER:GROUP, and of all capabilities these."""
    uid, _, gid = user.partition(":")
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    setpriv = [require_program("setpriv"), "--reuid", uid, "--regid", gid, "--clear-groups"]
    return [*setpriv, "--inh-caps", "-all", "--bounding-set", bounding, "--no-new-privs", *argv]


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    require_root_and_netns()
    build_kernel_program()
    with Network() as network:
        host = network.host("host")
        network.connect(host, f"{ADDRESS}/24", network.host("router"), "10.88.7.2/24")
        yield host


@pytest.fixture
def volume() -> Iterator[Path]:
    """What Docker makes of VOLUME: a directory of the image's user, closed to others."""
    with tempfile.TemporaryDirectory(prefix="volume-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        os.chown(data, USER, GROUP)
        yield data


def serve(host: Namespace, volume: Path, user: str, capabilities: Sequence[str], *flags: str) -> Process:
    argv = [TURNRELAY, "serve", "--listen", ADDRESS, "--relay-ip", ADDRESS, "--http", "127.0.0.1:9641"]
    return Process(
        contained(user, capabilities, *argv, "--log-format", "json", "--data-dir", volume, *flags),
        namespace=host,
    )


def owners(volume: Path) -> dict[str, int]:
    return {file.name: file.stat().st_uid for file in volume.iterdir()}


def test_the_kernel_plane_runs_as_compose_starts_it_and_the_way_back_is_open(host, volume):
    user = KERNEL_PLANE["user"]
    assert user == "0:0"
    capabilities = KERNEL_PLANE["cap_add"]
    plane = KERNEL_PLANE["environment"]["TURNRELAY_PLANE"]
    with serve(host, volume, user, capabilities, "--plane", plane) as relay:
        relay.wait_until(lambda: "relay started" in relay.output(), PATIENCE)
        assert '"plane": "xdp"' in relay.output()
        add = TURNRELAY, "users", "add", "alice", "--password-stdin", "--data-dir", volume
        typed = "sh", "-c", 'echo hunter22 | "$@"', "sh", *add
        run(contained(user, capabilities, *typed), namespace=host, timeout=PATIENCE)
        run(
            contained(user, capabilities, TURNRELAY, "health", "--data-dir", volume),
            namespace=host,
            timeout=PATIENCE,
        )
    made = dict.fromkeys(("shared-secret", "operator-token", "users.sqlite3", "pid"), USER)
    assert owners(volume) == made
    with serve(host, volume, IMAGE, []) as relay:
        relay.wait_until(lambda: "relay started" in relay.output(), PATIENCE)
        assert "nobody can use the operator's API" not in relay.output()
        listed = run(contained(IMAGE, [], TURNRELAY, "users", "list", "--data-dir", volume), timeout=PATIENCE)
        assert listed.startswith("alice\t")


def test_a_root_that_may_not_read_others_files_is_told(host, volume):
    """The capabilities of the kernel plane alone; what keeps the test above from proving nothing."""
    with serve(host, volume, "0:0", ["BPF", "NET_ADMIN", "PERFMON"]) as relay:
        relay._popen.wait(PATIENCE)
        assert relay.returncode == 1
        assert f"{volume}/shared-secret: cannot read or create the shared secret" in relay.output()


def test_a_low_port_takes_one_capability_more(host, volume):
    capabilities = [*KERNEL_PLANE["cap_add"], "NET_BIND_SERVICE"]
    host.command("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=1024")
    with serve(host, volume, "0:0", capabilities, "--shared", f"{ADDRESS}:443") as relay:
        relay.wait_until(lambda: "relay started" in relay.output(), PATIENCE)
