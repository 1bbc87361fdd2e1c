"""What an operator gets wrong, or a machine: one error that says where and what to do."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from reliability.turn_peer import DatagramClient
from reliability.workers import eventually, succeeded
from support.certificates import Certificates
from support.netns import Network
from support.ports import loopback_address
from support.processes import Process
from support.relay import Access, Site
from support.requirements import require_program, require_root_and_netns
from support.turnrelay_server import TurnRelayServer

pytestmark = pytest.mark.slow

TURNRELAY = Path(sys.executable).with_name("turnrelay")
WRONG_SETTINGS, WRONG_USAGE, CANNOT_SERVE = 78, 2, 1
PATIENCE = 60


@pytest.fixture
def address():
    with loopback_address() as leased:
        yield leased


def refused(address, folder, *flags, prefix=(), **how) -> tuple[int, str]:
    """Exit status and output of a relay that cannot serve."""
    argv = [*prefix, TURNRELAY, "serve", "--listen", address, "--relay-ip", address, "--http", "off"]
    with Process([*argv, "--data-dir", folder / "data", *flags], **how) as process:
        process._popen.wait(PATIENCE)
        output = process.output()
        assert "Traceback" not in output
        assert output.count("turnrelay: ") <= 1, "one error"
        return process.returncode, output


@contextmanager
def taken(address, port):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen()
        yield


def test_wrong_settings_end_with_the_status_that_nobody_starts_again_for(address, tmp_path):
    environ = {**os.environ, "TURNRELAY_PROT": "3"}
    status, output = refused(address, tmp_path, "--allow-peer", "10.0.0.0/33", env=environ)
    assert status == WRONG_SETTINGS
    assert "--allow-peer = '10.0.0.0/33'" in output
    assert "TURNRELAY_PROT\n    there is no such setting; did you mean TURNRELAY_PORT?" in output
    status, output = refused(address, tmp_path, "--wrokers", "2")
    assert (status, "--workers" in output) == (WRONG_USAGE, True)
    unit = Path(__file__).parents[2] / "deploy" / "systemd" / "turnrelay.service"
    assert f"\nRestartPreventExitStatus={WRONG_USAGE} {WRONG_SETTINGS}\n" in unit.read_text()


def test_a_key_of_another_certificate_is_named(address, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Certificates.issue(tmp_path / name, address)
    flags = "--tls-cert", tmp_path / "one" / "chain.pem", "--tls-key", tmp_path / "two" / "key.pem"
    status, output = refused(address, tmp_path, *flags)
    assert status == WRONG_SETTINGS
    assert f"two/key.pem\n    is not the key of the certificate {flags[1]}" in output


@pytest.mark.parametrize(
    ("port", "flags", "advice"),
    [
        (3478, (), "choose another --listen or --port"),
        (5349, ("--tls",), "choose another --listen or --tls-port"),
        (9641, ("--http", "{}:9641"), "choose another --http ADDR:PORT"),
        (8443, ("--shared", "{}:8443"), "choose another --shared ADDR:PORT"),
    ],
)
def test_a_port_in_use_is_named_with_its_flag(address, tmp_path, port, flags, advice):
    made = Certificates.issue(tmp_path, address)
    tls = ["--tls-cert", made.chain, "--tls-key", made.key]
    flags = [flag.format(address) for flag in flags if flag != "--tls"]
    with taken(address, port):
        status, output = refused(address, tmp_path, *tls, *flags)
    assert status == CANNOT_SERVE
    assert f"cannot listen on {address} port {port}: Address already in use; " in output
    assert advice in output


def test_the_right_to_listen_on_low_ports_is_named():
    require_root_and_netns()
    nobody = [require_program("setpriv"), "--reuid", "65534", "--clear-groups", "--inh-caps", "-all"]
    with Network() as network, tempfile.TemporaryDirectory(prefix="low-ports-") as folder:
        Path(folder).chmod(0o777)
        host = network.host("host")
        status, output = refused(
            *("127.0.0.1", Path(folder), "--port", "443"),
            prefix=[*nobody, "--bounding-set", "-all"],
            namespace=host,
        )
    assert status == CANNOT_SERVE
    assert "port 443: Permission denied; low ports take the capability CAP_NET_BIND_SERVICE" in output


@pytest.mark.parametrize("flag", ["--listen", "--relay-ip", "--alternate-ip"])
def test_an_address_of_another_machine_is_named_with_its_flag(address, tmp_path, flag):
    status, output = refused(address, tmp_path, flag, "192.0.2.1")
    assert status == CANNOT_SERVE
    assert "192.0.2.1" in output
    assert flag in output
    assert "address of this machine" in output


def test_a_data_directory_that_is_none_is_named(address, tmp_path):
    (tmp_path / "data").write_text("a file")
    status, output = refused(address, tmp_path)
    assert status == CANNOT_SERVE
    assert f"{tmp_path}/data/shared-secret: cannot read or create the shared secret" in output


def test_a_host_of_ipv6_alone_promises_no_ipv4_address(tmp_path):
    require_root_and_netns()
    with Network() as network:
        host, router = network.host("host"), network.host("router")
        ours, _ = network.connect(host, "2001:db8::1/64", router, "2001:db8::2/64")
        host.ip("route", "add", "default", "via", "2001:db8::2", "dev", ours)
        argv = [TURNRELAY, "serve", "--data-dir", tmp_path, "--http", "off"]
        with Process(argv, namespace=host) as process:
            process.wait_until(lambda: "Relay addresses" in process.output(), PATIENCE)
            assert "Relay addresses  2001:db8::1, ports" in process.output()


# -- a disk without room ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    require_root_and_netns()
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], check=True, timeout=10)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)


class RelayWritingTo(TurnRelayServer):
    """Its standard output and error go to a file."""

    def __init__(self, log, site, access, **how):
        super().__init__(site, access, **how)
        self._log = log

    def _argv(self):
        return ["sh", "-c", 'exec "$@" >>"$0" 2>&1', self._log, *super()._argv()]


def fill(folder):
    with (folder / "fill").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def test_a_first_start_on_a_full_disk_says_so(address, small_disk):
    (small_disk / "data").mkdir()
    fill(small_disk)
    status, output = refused(address, small_disk)
    assert status == CANNOT_SERVE
    assert "cannot read or create the shared secret (No space left on device)" in output


def test_a_relay_serves_on_while_its_disk_is_full(address, small_disk, tmp_path):
    """The data directory's, and the one that its log goes to."""
    access = Access(allowed_peers=("127.0.0.0/8",))
    site = Site.prepare(tmp_path / "relay", address)
    log = small_disk / "log"
    server = RelayWritingTo(log, site, access, flags=["--data-dir", small_disk])
    with server:
        fill(small_disk)
        for _ in range(40):  # more lines than are kept until there is room
            client = DatagramClient((address, server.port), access.username, access.password)
            assert succeeded(client.allocate())
            assert succeeded(client.refresh(0))
            client.close()
        assert server.get("/readyz")[0] == 200
        (small_disk / "fill").unlink()
        client = DatagramClient((address, server.port), access.username, access.password)
        assert succeeded(client.allocate())
        eventually(lambda: "allocation created" in log.read_text().splitlines()[-1], "it logs no more")
        client.close()
        server.process.signal(signal.SIGINT)
        eventually(lambda: server.process.returncode is not None, "it does not end")
        assert server.process.returncode == 0


def test_a_relay_serves_where_its_output_has_no_room_or_reader(address, tmp_path, monkeypatch):
    """Nor have its warnings."""
    monkeypatch.setenv("TURNRELAY_NO_SETTING", "1")
    access = Access(allowed_peers=("127.0.0.0/8",))
    server = RelayWritingTo(Path("/dev/full"), Site.prepare(tmp_path / "relay", address), access)
    with server:
        client = DatagramClient((address, server.port), access.username, access.password)
        assert succeeded(client.allocate())
        client.close()
        server.process.signal(signal.SIGINT)
        eventually(lambda: server.process.returncode is not None, "it does not end")
        assert server.process.returncode == 0
