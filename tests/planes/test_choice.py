"""Which plane a relay runs, and what it says when the kernel plane is not to be had."""

import sys
from pathlib import Path

import pytest
from planes.lab import PLANES, Hosts
from support.netns import Network
from support.processes import Process
from support.requirements import require_program
from turnrelay.relay.kernel import syscall
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.kernel_object import KernelObject

TURNRELAY = Path(sys.executable).with_name("turnrelay")


@pytest.fixture(scope="module")
def hosts(kernel_program):
    with Network() as network:
        yield Hosts(network, PLANES["native"])


def serve(hosts, folder, plane, *, address="10.88.1.1", capabilities="+all"):
    setpriv = [require_program("setpriv"), "--bounding-set", capabilities, "--inh-caps", "-all"]
    argv = [*setpriv, TURNRELAY, "serve", "--listen", address, "--relay-ip", address, "--http", "off"]
    return Process([*argv, "--plane", plane, "--data-dir", folder], namespace=hosts.server)


WITHOUT_BPF = "-bpf,-sys_admin"
LITTLE = "-all,+bpf,+perfmon,+net_admin"


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [
        (WITHOUT_BPF, "lacks CAP_BPF"),
        ("-perfmon,-sys_admin", "lacks CAP_PERFMON"),
        ("-net_admin", "lacks CAP_NET_ADMIN"),
    ],
)
def test_a_missing_capability_is_named(hosts, tmp_path, capabilities, missing):
    with serve(hosts, tmp_path, "xdp", capabilities=capabilities) as process:
        process.wait_until(lambda: missing in process.output())
        process._popen.wait(60)
        assert process.returncode == 1
    with serve(hosts, tmp_path, "auto", capabilities=capabilities) as process:
        process.wait_until(lambda: "relay started" in process.output())
        assert missing in process.output()
        assert '"plane": "userspace"' in process.output()


def test_three_capabilities_are_enough(hosts, tmp_path):
    with serve(hosts, tmp_path, "xdp", capabilities=LITTLE) as process:
        process.wait_until(lambda: "relay started" in process.output())
        assert '"mode": "native"' in process.output()


def test_loopback_is_left_to_userspace(hosts, tmp_path):
    with serve(hosts, tmp_path, "auto", address="127.0.0.1") as process:
        process.wait_until(lambda: "relay started" in process.output())
        assert "no Ethernet interface has an address of the relay" in process.output()


def test_a_program_that_was_not_built_is_named(kernel_program, tmp_path):
    with pytest.raises(KernelPlaneUnavailable, match="make bpf"):
        KernelObject(8, 0, tmp_path / "relay.bpf.o")
    (tmp_path / "relay.bpf.o").write_bytes(b"\x7fELF\x02 and no more")
    with pytest.raises(KernelPlaneUnavailable, match="cannot be read"):
        KernelObject(8, 0, tmp_path / "relay.bpf.o")


def test_the_verifier_is_quoted(kernel, tmp_path):
    exit_without_value = bytes.fromhex("9500000000000000")
    with pytest.raises(syscall.ProgramRejected, match="R0 !read_ok"):
        syscall.load_program("bad", syscall.XDP, syscall.ATTACH_XDP, exit_without_value, "Apache-2.0")
