"""What a running relay bears: packets that do not fit, bad certificates, clients that fall behind."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from reliability.turn_peer import DatagramClient, Peer, StreamClient
from reliability.workers import error_of, succeeded
from stunwire import ERROR_CODE, SOFTWARE, MessageClass, Method
from support.certificates import Certificates
from support.ports import loopback_address
from support.relay import Access, Site
from support.requirements import require_program
from support.turnrelay_server import TurnRelayServer

CHANNEL = 0x4000
ACCESS = Access(allowed_peers=("127.0.0.0/8",))


@pytest.fixture
def address() -> Iterator[str]:
    with loopback_address() as address:
        yield address


@pytest.fixture
def relay(address: str, tmp_path: Path) -> Iterator[TurnRelayServer]:
    with TurnRelayServer(Site.prepare(tmp_path / "relay", address), ACCESS) as server:
        yield server


@pytest.fixture
def peer(relay: TurnRelayServer) -> Iterator[Peer]:
    peer = Peer(relay.site.address)
    yield peer
    peer.close()


@pytest.fixture
def client(relay: TurnRelayServer) -> Iterator[StreamClient]:
    client = StreamClient((relay.site.address, relay.port), ACCESS.username, ACCESS.password)
    yield client
    client.close()


def test_a_packet_that_fits_no_datagram_does_not_deafen_the_relayed_address(client, peer):
    client.bind(CHANNEL, peer.address)
    peer.sock.sendto(b"before", tuple(client.relayed))
    assert client.frame().endswith(b"before")
    for _ in range(3):
        client.send(CHANNEL, bytes(65508))  # one byte more than UDP over IPv4 holds
    client.send(CHANNEL, b"still here")
    assert peer.sock.recv(100) == b"still here"
    for number in range(5):
        peer.sock.sendto(b"after %d" % number, tuple(client.relayed))
        assert client.frame().endswith(b"after %d" % number)


def test_answers_reach_a_client_that_fell_behind(relay, peer):
    def with_little_room(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)

    server = (relay.site.address, relay.port)
    client = StreamClient(server, ACCESS.username, ACCESS.password, with_little_room)
    client.bind(CHANNEL, peer.address)
    deadline = time.monotonic() + 30
    while relay.scrape().total("turnrelay_dropped_packets_total", reason="client_congested") == 0:
        assert time.monotonic() < deadline, "the client never fell behind"
        for _ in range(500):
            peer.sock.sendto(bytes(1200), tuple(client.relayed))
        time.sleep(0.01)
    transaction_id = client.send_request(Method.REFRESH)
    while (frame := client.frame())[0] >= 4:
        assert frame, "the relay closed the connection"
    assert frame[8:20] == transaction_id
    client.close()


def test_a_request_with_too_many_attributes_is_answered(client):
    answer = client.request(Method.REFRESH, *[(SOFTWARE, "x")] * 100)
    assert answer.message_class is MessageClass.ERROR_RESPONSE
    assert answer.get(ERROR_CODE).code == 400


def _served(relay: TurnRelayServer) -> bytes | None:
    """The certificate that a new TLS connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((relay.site.address, relay.tls_port), timeout=10) as raw,
            context.wrap_socket(raw) as tls,
        ):
            return tls.getpeercert(binary_form=True)
    except ssl.SSLError:
        return None


def _der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")


def _replace(files: Certificates, *names: str, key: bool = True) -> None:
    issued = trustme.CA().issue_cert(*names, key_type=trustme.KeyType.RSA)
    issued.cert_chain_pems[0].write_to_path(files.chain)
    if key:
        issued.private_key_pem.write_to_path(files.key)


def _hang_up(relay: TurnRelayServer, word: str) -> None:
    """SIGHUP, and wait until the log says what came of it."""
    relay.process.signal(signal.SIGHUP)
    relay.process.wait_until(lambda: word in relay.process.output())


def test_a_bad_certificate_leaves_the_old_one_in_use_and_a_good_one_takes_over(relay):
    files, before = relay.site.certificates, _served(relay)
    assert before == _der(files.chain)
    _replace(files, "relay.test", key=False)
    _hang_up(relay, "certificate not reloaded")
    assert _served(relay) == before
    _replace(files, "relay.test")
    _hang_up(relay, "certificate reloaded")
    assert _served(relay) == _der(files.chain) != before


def _rendezvous_status(relay: TurnRelayServer, host: str) -> int:
    """400, since no WebSocket is asked for, or 421 for a name that is none of the relay's."""
    connection = http.client.HTTPConnection(relay.site.address, 9641, timeout=10)
    try:
        connection.request("GET", "/v1/rendezvous", headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_rendezvous_goes_by_the_names_of_the_certificate_that_is_served_now(relay):
    def known(*hosts: str) -> list[bool]:
        statuses = [_rendezvous_status(relay, host) for host in hosts]
        assert set(statuses) <= {400, 421}
        return [status == 400 for status in statuses]

    names = ("old.example", "new.example", "any.wild.example", "wild.example", "a.b.wild.example")
    _replace(relay.site.certificates, "old.example")
    _hang_up(relay, "certificate reloaded")
    assert known(*names) == [True, False, False, False, False]
    _replace(relay.site.certificates, "new.example", "*.wild.example")
    relay.process.signal(signal.SIGHUP)
    relay.process.wait_until(lambda: relay.process.output().count("certificate reloaded") == 2)
    assert known(*names) == [False, True, True, False, False]


def test_what_is_discarded_is_counted_on_every_socket(address, tmp_path):
    with loopback_address() as alternate:
        site = Site.prepare(tmp_path / "relay", address)
        with TurnRelayServer(site, ACCESS, flags=["--alternate-ip", alternate]) as relay:
            everywhere = [(host, port) for host in (address, alternate) for port in (3478, 3479)]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for place in everywhere:
                    stranger.sendto(b"\xff\xff", place)
                    stranger.sendto(b"\x40\x00\x00\x01x", place)
            deadline = time.monotonic() + 10
            for reason in ("garbage", "unbound_channel"):
                while relay.scrape().total("turnrelay_discarded_messages_total", reason=reason) != 4:
                    assert time.monotonic() < deadline, relay.scrape().samples
                    time.sleep(0.05)


class _WithFewFiles(TurnRelayServer):
    def _argv(self):
        return [require_program("prlimit"), "--nofile=64:64", *super()._argv()]


def test_a_relay_without_files_for_more_refuses_and_goes_on(address, tmp_path):
    site = Site.prepare(tmp_path / "relay", address)
    with _WithFewFiles(site, ACCESS, flags=["--workers", "1", "--log-format", "json"]) as relay:
        advice = re.search(r'"allocation:relay_ports": (.*)', relay.get("/static/failures.js")[1])
        assert "LimitNOFILE" in advice[1], "the console's"
        clients = []
        try:
            while not clients or succeeded(clients[-1].allocate()):
                assert len(clients) < 64
                clients.append(DatagramClient((address, relay.port), ACCESS.username, ACCESS.password))
            assert error_of(clients[-1].allocate()) == 508
            assert '"reason": "relay_ports"' in relay.process.output()
            assert succeeded(clients[0].refresh(0))
            assert succeeded(clients[-1].allocate())
        finally:
            for client in clients:
                client.close()


def test_a_removed_user_prolongs_nothing(relay):
    def users(*arguments: str, given: str = "") -> None:
        command = Path(sys.executable).with_name("turnrelay")
        options = ["--data-dir", str(relay.site.folder / "data"), "--realm", ACCESS.realm]
        subprocess.run(
            [command, "users", *arguments, *options], input=given, text=True, check=True, env=dict(os.environ)
        )

    users("add", "carol", "--password-stdin", given="a long enough password\n")
    client = StreamClient((relay.site.address, relay.port), "carol", "a long enough password")
    assert client.refresh(600).message_class is MessageClass.SUCCESS_RESPONSE
    users("remove", "carol")
    deadline = time.monotonic() + 15
    while client.refresh(600).message_class is MessageClass.SUCCESS_RESPONSE:
        assert time.monotonic() < deadline, "a removed user still prolongs its allocation"
        time.sleep(0.2)
    assert client.refresh(600).get(ERROR_CODE).code == 401
    client.close()
