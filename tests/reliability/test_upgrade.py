"""A running relay is replaced by the next process: nobody who is connected notices."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from reliability.turn_peer import DatagramClient, StreamClient
from reliability.upgradable import (
    OPEN,
    ByChannel,
    ByIndication,
    ByRelay,
    Numbered,
    SharedTls,
    Traffic,
    UpgradableRelay,
)
from reliability.workers import error_of, eventually, succeeded
from stunwire import EVEN_PORT, RESERVATION_TOKEN, XOR_RELAYED_ADDRESS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mover", ["c", "python"])
def test_three_upgrades_lose_nothing_and_double_nothing(mover, site, over_udp, over_tcp, peer):
    with UpgradableRelay(site, OPEN, flags=["--mover", mover]) as relay:
        flows: list[Numbered] = [
            ByChannel("UDP channel", over_udp(), peer()),
            ByIndication("UDP indications", over_udp(), peer()),
            ByChannel("TCP channel", over_tcp(), peer()),
            ByIndication("TCP indications", over_tcp(), peer()),
        ]
        with Traffic(flows) as traffic:
            for _ in range(3):
                traffic.goes_on()
                relay.upgrade()
            traffic.goes_on()
        traffic.must_be_whole()
        for flow in flows:
            assert succeeded(flow.client.refresh(600)), "the nonce of the first process is good"


@pytest.fixture
def over_tls(site, closing) -> Callable[[], StreamClient]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def make() -> StreamClient:
        server = (site.address, 5349)
        return closing(
            StreamClient(
                server, OPEN.username, OPEN.password, wrap=lambda sock: SharedTls(context.wrap_socket(sock))
            )
        )

    return make


def test_connections_that_cannot_move_stay_with_the_old_process_until_they_end(
    site, over_udp, over_tls, peer
):
    with UpgradableRelay(site, OPEN) as relay:
        old, secure, plain = relay.pid, over_tls(), over_udp()
        flows: list[Numbered] = [
            ByChannel("TLS channel", secure, peer()),
            # Clients of both processes, who are each other's peers.
            ByRelay("UDP to TLS", plain, over_tls()),
        ]
        with Traffic(flows) as traffic:
            traffic.goes_on()
            relay.upgrade()
            traffic.goes_on()
            assert relay.process.returncode is None
        traffic.must_be_whole()
        newcomer = over_tls()
        assert succeeded(newcomer.refresh(600)), "those who come now are served by the new process"
        for flow in flows:
            flow.client.close()
            flow.peer.close()
        eventually(lambda: relay.process.returncode == 0, "the old process stays for nobody")
        assert relay.pid != old
        assert succeeded(newcomer.refresh(600))


def test_the_old_process_stays_no_longer_than_it_is_given(site, over_tls):
    with UpgradableRelay(site, OPEN, flags=["--upgrade-timeout", "1"]) as relay:
        client = over_tls()
        relay.upgrade()
        eventually(lambda: relay.process.returncode == 0, "it stays")
        assert client.frame() == b"", "its client is told by the end of the connection"


def test_it_is_ready_all_the_time(site):
    with UpgradableRelay(site, OPEN) as relay:
        answers, over = [], threading.Event()

        def ask() -> None:
            while not over.is_set():
                answers.append(relay.get("/readyz")[0])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for _ in range(2):
                relay.upgrade()
            time.sleep(0.5)
        finally:
            over.set()
            asking.join()
        assert set(answers) == {200}


def test_what_was_promised_and_counted_is_known_to_the_next_process(site, over_udp, closing):
    with UpgradableRelay(site, OPEN, allocations_per_user=3) as relay:
        first = over_udp()
        even = closing(DatagramClient((site.address, relay.port), OPEN.username, OPEN.password))
        answer = even.allocate((EVEN_PORT, True))
        token, address = answer.get(RESERVATION_TOKEN), answer.get(XOR_RELAYED_ADDRESS)
        created = relay.scrape().total("turnrelay_allocations_created_total")
        relay.upgrade()
        assert relay.scrape().total("turnrelay_allocations_created_total") == created == 2
        assert relay.scrape().total("turnrelay_allocations") == 2
        third = closing(DatagramClient((site.address, relay.port), OPEN.username, OPEN.password))
        assert error_of(third.allocate()) == 486, (
            "two allocations and a reservation are what the user may have"
        )
        assert error_of(even.allocate()) == 437, "it has one"
        answer = third.allocate((RESERVATION_TOKEN, token))
        assert answer.get(XOR_RELAYED_ADDRESS) == address._replace(port=address.port + 1)
        assert succeeded(first.refresh(0))
        assert relay.scrape().total("turnrelay_allocations") == 2
        assert relay.scrape().total("turnrelay_relay_ports_in_use") == 2


def test_an_answer_that_was_lost_is_repeated_by_the_next_process(site, closing):
    with UpgradableRelay(site, OPEN) as relay:
        client = closing(DatagramClient((site.address, relay.port), OPEN.username, OPEN.password))
        request = client.form_allocate()
        client.sock.send(request)
        answer = client.sock.recv(2000)
        relay.upgrade()
        client.sock.send(request)
        assert client.sock.recv(2000) == answer


def test_new_settings_are_for_what_comes_and_take_nothing_away(site, over_udp, over_tcp, peer):
    with UpgradableRelay(site, OPEN) as relay:
        flows: list[Numbered] = [
            ByChannel("UDP", over_udp(), peer()),
            ByChannel("TCP", over_tcp(), peer()),
        ]
        relay.configure("software = 1")
        assert "status 78" in relay.failed_upgrade()
        # The flags of the command are stronger than the file; these are in the file alone.
        relay.configure("min_port = 40000\nmax_port = 40010\nlog_level = 'debug'", allocations_per_user=2)
        with Traffic(flows) as traffic:
            relay.upgrade()
            traffic.goes_on()
        traffic.must_be_whole()
        newcomer = DatagramClient((site.address, relay.port), OPEN.username, OPEN.password)
        assert error_of(newcomer.allocate()) == 486
        assert succeeded(flows[0].client.refresh(0))
        assert succeeded(newcomer.allocate())
        assert newcomer.relayed is not None
        assert 40000 <= newcomer.relayed.port <= 40010
        newcomer.close()


_KILL = "import os, signal\n"
_STAGES = {
    "import": "raise ImportError('half installed')\n",
    "settings": "import turnrelay.processes as at\nat.run = lambda settings: os.kill(os.getpid(), 9)\n",
    "offer": "import turnrelay.handover.successor as at\n"
    "at.read_offer = lambda body: os.kill(os.getpid(), 9)\n",
    "ready": "import turnrelay.handover.successor as at\n"
    "at.Successor.bind_the_rest = lambda self, settings: os.kill(os.getpid(), 9)\n",
    "holdings": "import turnrelay.handover.inheritance as at\n"
    "at.read_holdings = lambda body: os.kill(os.getpid(), 9)\n",
    "state": "import turnrelay.handover.inheritance as at\nat.restore = lambda *a: os.kill(os.getpid(), 9)\n",
    "serving": "import turnrelay.handover.successor as at\n"
    "at.Successor.tell_serving = lambda self: os.kill(os.getpid(), 9)\n",
}


def test_a_new_process_that_dies_at_any_stage_leaves_the_old_one_serving(site, over_udp, over_tcp, peer):
    with UpgradableRelay(site, OPEN) as relay:
        flows: list[Numbered] = [
            ByChannel("UDP", over_udp(), peer()),
            ByIndication("TCP", over_tcp(), peer()),
        ]
        with Traffic(flows) as traffic:
            for stage, prologue in _STAGES.items():
                relay.install(_KILL + prologue)
                line = relay.failed_upgrade()
                assert f"status {1 if stage == 'import' else -9} before it served" in line, stage
            relay.install()
            relay.upgrade()
            traffic.goes_on(0.2)
        traffic.must_be_whole()


_NEWER_FIELD = """
import turnrelay.handover.inventory as at
from turnrelay.handover.format import Holdings
class Newer(Holdings):
    mood: str = "good"
at.Holdings = Newer
"""
_NEWER_FORMAT = "import turnrelay.handover.predecessor as at\nat.FORMAT = 2\n"
_HANGS = """
import time
import turnrelay.handover.inventory as old, turnrelay.handover.inheritance as new
old._PATIENCE_SECONDS = 1.0
new.restore = lambda *a: time.sleep(60)
"""


@pytest.mark.parametrize(
    ("prologue", "reason"),
    [
        (_NEWER_FIELD, "mood"),
        (_NEWER_FORMAT, "format 2, and this version reads 1"),
        (_HANGS, "says nothing"),
    ],
)
def test_a_state_that_the_new_process_cannot_take_stays_where_it_is(prologue, reason, site, over_udp, peer):
    with UpgradableRelay(site, OPEN, prologue=prologue) as relay:
        flow = ByChannel("UDP", over_udp(), peer())
        if prologue is not _HANGS:
            relay.install()
        with Traffic([flow]) as traffic:
            assert reason in relay.failed_upgrade()
            traffic.goes_on(0.2)
        traffic.must_be_whole()
        if prologue is not _HANGS:
            assert relay.log().count(reason) == 2, "both say it"


def test_the_command_says_who_serves(site):
    def upgrade() -> subprocess.CompletedProcess[str]:
        command = Path(sys.executable).with_name("turnrelay")
        argv = [command, "upgrade", "--data-dir", site.folder / "data"]
        return subprocess.run(argv, text=True, capture_output=True, timeout=100)

    with UpgradableRelay(site, OPEN) as relay:
        old = relay.pid
        told = upgrade()
        assert told.returncode == 0, told.stderr
        assert str(old) in told.stdout
        assert str(relay.pid) in told.stdout
        relay.install("raise ImportError\n")
        for _ in range(2):
            told = upgrade()
            assert told.returncode == 1
            assert "goes on" in told.stderr
            assert "status 1" in told.stderr


def test_the_service_manager_hears_which_process_serves(site, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with UpgradableRelay(site, OPEN) as relay:
            assert manager.recv(100) == b"READY=1"
            relay.upgrade()
            told = {manager.recv(100), manager.recv(100)}
            assert told == {b"READY=1", f"MAINPID={relay.pid}".encode()}
