"""A relay that is told to stop: its clients go on until they are done, or the time is up."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from reliability.turn_peer import DatagramClient, Peer
from reliability.workers import RelayOfTwo, error_of, eventually, succeeded
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

CHANNEL = 0x4000
OPEN = Access(allowed_peers=("127.0.0.0/8",))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with loopback_address() as address:
        yield Site.prepare(tmp_path / "relay", address)


@pytest.fixture
def peer(site: Site) -> Iterator[Peer]:
    peer = Peer(site.address)
    yield peer
    peer.close()


def _client(relay: TurnRelayServer) -> DatagramClient:
    return DatagramClient((relay.site.address, relay.port), OPEN.username, OPEN.password)


def _begins_to_drain(relay: TurnRelayServer) -> None:
    relay.process.wait_until(lambda: "draining" in relay.process.output())


def _assert_it_drains(relay: TurnRelayServer, client: DatagramClient, peer: Peer) -> None:
    """What lives goes on, nothing new begins, and everybody is told."""
    eventually(lambda: relay.get("/readyz")[0] == 503, "it says that it is ready")
    assert relay.scrape().total("turnrelay_draining") == 1
    newcomer = _client(relay)
    assert error_of(newcomer.allocate()) == 508
    newcomer.close()
    assert succeeded(client.refresh(600))
    client.send(CHANNEL, b"still here")
    assert peer.sock.recv(100) == b"still here"


@pytest.mark.parametrize("kind", [TurnRelayServer, RelayOfTwo])
def test_a_draining_relay_serves_its_last_client_and_ends_with_it(kind, site, peer):
    with kind(site, OPEN) as relay:
        client = _client(relay)
        assert succeeded(client.allocate())
        assert succeeded(client.bind(CHANNEL, peer.address))
        relay.process.signal(signal.SIGTERM)
        _begins_to_drain(relay)
        _assert_it_drains(relay, client, peer)
        assert relay.process.returncode is None
        assert succeeded(client.refresh(0))
        eventually(lambda: relay.process.returncode is not None, "it does not end")
        assert relay.process.returncode == 0
        assert "drained" in relay.process.output()
        client.close()


def test_without_clients_it_ends_at_once(site):
    with TurnRelayServer(site, OPEN) as relay:
        relay.process.signal(signal.SIGTERM)
        eventually(lambda: relay.process.returncode == 0, "it does not end")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(second, site):
    with TurnRelayServer(site, OPEN, flags=["--drain-timeout", "3600"]) as relay:
        client = _client(relay)
        assert succeeded(client.allocate())
        relay.process.signal(signal.SIGTERM)
        _begins_to_drain(relay)
        relay.process.signal(second)
        eventually(lambda: relay.process.returncode == 0, "it does not end")
        assert '"reason": "shutdown"' in relay.process.output()
        client.close()


def test_what_is_left_when_the_time_is_up_ends_with_the_relay(site):
    with TurnRelayServer(site, OPEN, flags=["--drain-timeout", "1"]) as relay:
        client = _client(relay)
        assert succeeded(client.allocate())
        began = time.monotonic()
        relay.process.signal(signal.SIGTERM)
        eventually(lambda: relay.process.returncode == 0, "it does not end")
        assert time.monotonic() - began > 0.9
        assert '"reason": "shutdown"' in relay.process.output()
        client.close()


def test_the_command_finds_the_relay_by_its_data_directory(site, tmp_path):
    def drain(data_dir: Path) -> subprocess.CompletedProcess[str]:
        command = Path(sys.executable).with_name("turnrelay")
        return subprocess.run(
            [command, "drain", "--data-dir", data_dir], text=True, capture_output=True, timeout=60
        )

    data_dir = site.folder / "data"
    with TurnRelayServer(site, OPEN) as relay:
        told = drain(data_dir)
        assert told.returncode == 0, told.stderr
        assert str(relay.process.pid) in told.stdout
        eventually(lambda: relay.process.returncode == 0, "it does not end")
    told = drain(data_dir)
    assert told.returncode == 1
    assert "no relay runs" in told.stderr
