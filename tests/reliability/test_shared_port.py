"""TURN over TCP, TURN over TLS, HTTPS and the tunnel on one port of a running relay."""

import http.client
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from reliability.turn_peer import Peer, StreamClient, TunnelClient
from support.certificates import Certificates
from support.metrics import http_get
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer
from turnrelay.transports.tls_connection import HANDSHAKE_SECONDS

CHANNEL = 0x4000
ACCESS = Access(allowed_peers=("127.0.0.0/8",))
SHARED = 443


@pytest.fixture
def address() -> Iterator[str]:
    with loopback_address() as address:
        yield address


def sharing(folder: Path, address: str) -> TurnRelayServer:
    return TurnRelayServer(Site.prepare(folder, address), ACCESS, flags=["--shared", f"{address}:{SHARED}"])


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnRelayServer]:
    with loopback_address() as address, sharing(tmp_path_factory.mktemp("shared"), address) as server:
        yield server


@pytest.fixture
def peer(relay: TurnRelayServer) -> Iterator[Peer]:
    peer = Peer(relay.site.address)
    yield peer
    peer.close()


def context(relay: TurnRelayServer, *alpn: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(relay.site.certificates.authority))
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def tls(relay: TurnRelayServer, *alpn: str) -> ssl.SSLSocket:
    sock = socket.create_connection((relay.site.address, SHARED), timeout=5)
    return context(relay, *alpn).wrap_socket(sock, server_hostname=relay.site.address)


def turn_client(relay: TurnRelayServer, *alpn: str, plain: bool = False) -> StreamClient:
    def wrap(sock: socket.socket) -> socket.socket:
        host = relay.site.address
        return sock if plain else context(relay, *alpn).wrap_socket(sock, server_hostname=host)

    return StreamClient((relay.site.address, SHARED), ACCESS.username, ACCESS.password, wrap=wrap)


def must_relay(client: StreamClient, peer: Peer) -> None:
    client.bind(CHANNEL, peer.address)
    client.send(CHANNEL, b"there")
    assert peer.sock.recv(100) == b"there"
    peer.sock.sendto(b"and back", tuple(client.relayed))
    assert client.frame() == b"\x40\x00\x00\x08and back"
    client.close()


def test_turn_over_tcp(relay, peer):
    must_relay(turn_client(relay, plain=True), peer)


@pytest.mark.parametrize(
    ("alpn", "agreed"),
    [((), None), (("stun.turn",), "stun.turn"), (("h2",), None), (("h2", "stun.turn"), "stun.turn")],
)
def test_turn_over_tls_with_its_alpn_or_without_one_that_is_known(relay, peer, alpn, agreed):
    client = turn_client(relay, *alpn)
    assert client.sock.selected_alpn_protocol() == agreed
    must_relay(client, peer)


def test_the_tunnel(relay, peer):
    url = f"wss://{relay.site.address}:{SHARED}/v1/tunnel"
    must_relay(TunnelClient(url, ACCESS.username, ACCESS.password, ssl=context(relay)), peer)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h2", "http/1.1")])
def test_https_of_the_http_side_but_not_what_is_the_operators(relay, alpn):
    with tls(relay, *alpn) as sock:
        client = http.client.HTTPConnection("unused")
        client.sock = sock
        client.request("GET", "/v1/tunnel", headers={"Host": "relay.test"})
        answer = client.getresponse()
        assert answer.status == 426
        assert b"subprotocol turn" in answer.read()
        for path in ("/metrics", "/healthz", "/readyz"):
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            assert answer.status == 404


@pytest.mark.parametrize("port", [SHARED, TurnRelayServer.tls_port])
@pytest.mark.parametrize(
    ("version", "ciphers", "alert"),
    [
        (ssl.TLSVersion.TLSv1_2, "AES256-SHA256", "ALERT_HANDSHAKE_FAILURE"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", "ALERT_PROTOCOL_VERSION"),
    ],
    ids=["ciphers", "version"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_whose_tls_is_too_old_is_told_so_and_holds_no_connection(
    relay, port, version, ciphers, alert
):
    dated = context(relay)
    dated.minimum_version = dated.maximum_version = version
    dated.set_ciphers(ciphers)
    address = (relay.site.address, port)
    server = psutil.Process(relay.process.pid)
    with (
        socket.create_connection(address, timeout=5) as sock,
        pytest.raises(ssl.SSLError, match=alert),
    ):
        dated.wrap_socket(sock, server_hostname=relay.site.address)
    deadline = time.monotonic() + HANDSHAKE_SECONDS / 2
    while any(
        tuple(each.laddr) == address and each.status != psutil.CONN_LISTEN
        for each in server.net_connections("tcp")
    ):
        assert time.monotonic() < deadline, "the relay keeps the connection"
        time.sleep(0.05)


def test_the_ordinary_tls_port_knows_turns_alpn(relay):
    sock = socket.create_connection((relay.site.address, relay.tls_port), timeout=5)
    with context(relay, "stun.turn").wrap_socket(sock, server_hostname=relay.site.address) as client:
        assert client.selected_alpn_protocol() == "stun.turn"


def test_plain_http_is_told_to_use_https(relay):
    status, body = http_get(relay.site.address, SHARED, "/", None)
    assert (status, body) == (400, "This port wants https://\n")


def test_without_a_certificate_http_is_plain_for_a_proxy_in_front(address, tmp_path):
    site = Site.prepare(tmp_path / "relay", address)
    with _WithoutTls(site, ACCESS, flags=["--shared", f"{address}:{SHARED}"]) as relay:
        peer = Peer(address)
        must_relay(TunnelClient(f"ws://{address}:{SHARED}/v1/tunnel", ACCESS.username, ACCESS.password), peer)
        must_relay(turn_client(relay, plain=True), peer)
        with socket.create_connection((address, SHARED), timeout=5) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x05hello")
            assert ended(sock)
        peer.close()


class _WithoutTls(TurnRelayServer):
    def _argv(self):
        argv = super()._argv()
        for flag in ("--tls-cert", "--tls-key"):
            place = argv.index(flag)
            del argv[place : place + 2]
        return argv


def ended(sock: socket.socket) -> bool:
    """Whether the relay ends the connection."""
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    "said",
    [b"\xff\xfe", b"\x40\x00\x00\x04data", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00" + bytes(600)],
    ids=["binary", "channel data", "another protocol", "a broken handshake"],
)
def test_strangers_are_shown_the_door(relay, said):
    with socket.create_connection((relay.site.address, SHARED), timeout=5) as sock:
        sock.sendall(said)
        assert ended(sock)
    with tls(relay) as sock:
        sock.sendall(b"\xff" + said)
        assert ended(sock)
    assert relay.get("/readyz")[0] == 200


def test_who_hangs_up_at_any_moment_leaves_no_place_taken(address, tmp_path):
    (tmp_path / "limits.toml").write_text("[limits]\ntcp_connections_per_prefix = 4\n")
    flags = ["--config", str(tmp_path / "limits.toml"), "--shared", f"{address}:{SHARED}"]
    with TurnRelayServer(Site.prepare(tmp_path / "relay", address), ACCESS, flags=flags) as relay:

        def four_at_once() -> bool:
            """TLS connections of all kinds that live side by side, and a fifth that there is no place for."""
            with ExitStack() as stack:
                try:
                    for alpn in ("http/1.1", "stun.turn", "h2", "h3"):
                        stack.enter_context(tls(relay, alpn))
                except OSError:
                    return False
                fifth = stack.enter_context(socket.create_connection((address, SHARED), timeout=5))
                return ended(fifth)

        for _ in range(3):
            wait_for(four_at_once)
            silent = [socket.create_connection((address, SHARED), timeout=5) for _ in range(4)]
            for sock, said in zip(silent, (b"\x16", b"\x00", b"G", b""), strict=True):
                with suppress(OSError):
                    sock.sendall(said)
                sock.close()
        wait_for(four_at_once)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_says_nothing_is_put_out_after_ten_seconds(relay):
    with ExitStack() as stack:
        silent = [socket.create_connection((relay.site.address, SHARED), timeout=5)]
        silent += [tls(relay, alpn) for alpn in ("h2", "http/1.1")]
        for sock in silent:
            stack.enter_context(sock)
            sock.settimeout(30)
        for sock in silent:
            assert ended(sock)


def test_a_new_certificate_is_taken_on_the_shared_port_too(address, tmp_path):
    fresh_folder = tmp_path / "fresh"
    fresh_folder.mkdir()
    fresh = Certificates.issue(fresh_folder, address)
    trusting = ssl.create_default_context(cafile=str(fresh.authority))

    def accepted() -> bool:
        try:
            with socket.create_connection((address, SHARED), timeout=5) as sock:
                trusting.wrap_socket(sock, server_hostname=address).close()
        except ssl.SSLError:
            return False
        return True

    with sharing(tmp_path / "relay", address) as relay:
        assert not accepted()
        relay.site.certificates.chain.write_bytes(fresh.chain.read_bytes())
        relay.site.certificates.key.write_bytes(fresh.key.read_bytes())
        relay.process.signal(signal.SIGHUP)
        wait_for(accepted)
