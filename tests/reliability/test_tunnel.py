"""The tunnel of a running relay, with well-behaved and hostile clients (of the package websockets)."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from reliability.turn_peer import Peer, TunnelClient
from stunwire import XOR_MAPPED_ADDRESS, Message, MessageClass, Method
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer
from websockets import ConnectionClosed, InvalidStatus, Subprotocol
from websockets.sync.client import ClientConnection, connect

CHANNEL = 0x4000
ACCESS = Access(allowed_peers=("127.0.0.0/8",))
TURN = [Subprotocol("turn")]
HTTP_PORT = 9641


@pytest.fixture
def address() -> Iterator[str]:
    with loopback_address() as address:
        yield address


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnRelayServer]:
    folder = tmp_path_factory.mktemp("tunnel")
    with loopback_address() as address, TurnRelayServer(Site.prepare(folder, address), ACCESS) as server:
        yield server


@pytest.fixture
def url(relay: TurnRelayServer) -> str:
    return f"ws://{relay.site.address}:{HTTP_PORT}/v1/tunnel"


@pytest.fixture
def peer(relay: TurnRelayServer) -> Iterator[Peer]:
    peer = Peer(relay.site.address)
    yield peer
    peer.close()


@pytest.fixture
def client(url: str) -> Iterator[TunnelClient]:
    client = TunnelClient(url, ACCESS.username, ACCESS.password)
    yield client
    client.close()


def raw(url: str) -> AbstractContextManager[ClientConnection]:
    return connect(url, subprotocols=TURN, proxy=None)


def closed_with(websocket: ClientConnection) -> int:
    """The code with which the relay closes it."""
    with pytest.raises(ConnectionClosed) as closed:
        websocket.recv(5)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_data_goes_both_ways_and_is_counted_as_a_tunnels(relay, client, peer):
    client.bind(CHANNEL, peer.address)
    for size in (0, 1, 2, 3, 4, 125, 126, 1200, 60_000):
        client.send(CHANNEL, bytes(size))
        assert peer.sock.recv(65536) == bytes(size)
        peer.sock.sendto(bytes(size), tuple(client.relayed))
        assert client.frame() == b"\x40\x00" + size.to_bytes(2, "big") + bytes(size)
    scrape = relay.scrape()
    assert scrape.total("turnrelay_allocations", transport="websocket") == 1
    assert scrape.total("turnrelay_relayed_bytes_total", direction="to_peer", transport="websocket") > 60_000


def test_without_the_subprotocol_the_answer_says_what_to_ask_for(relay, url):
    with pytest.raises(InvalidStatus) as refused, connect(url, proxy=None):
        pass
    assert refused.value.response.status_code == 426
    assert b"subprotocol turn" in refused.value.response.body
    assert refused.value.response.headers["Upgrade"] == "websocket"  # a MUST of RFC 9110 section 15.5.22
    assert relay.get("/v1/tunnel")[0] == 426


def test_a_tunnel_that_ends_takes_its_allocation_with_it(relay, client):
    client.close()
    deadline = time.monotonic() + 10
    while relay.scrape().total("turnrelay_allocations", transport="websocket"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_wrong_password_is_refused_by_turn_itself(url):
    with pytest.raises(AssertionError, match=r"ErrorCodeValue\(code=401|401"):
        TunnelClient(url, ACCESS.username, "mad hatter")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("text", 1003),
        (b"", 1007),
        (b"\x00\x01", 1007),
        (b"\x00\x01\x00\x08" + bytes(16), 1007),  # says 8 bytes of attributes and has none
        (Message(MessageClass.REQUEST, Method.BINDING).encode() * 2, 1007),
        (b"\x40\x00\x00\x01", 1007),
        (b"\x40\x00\x00\x00" + bytes(4), 1007),
        (b"GET / HTTP/1.1\r\n\r\n", 1007),
        (b"\xff" * 100, 1007),
        (bytes(70_000), 1009),
    ],
    ids=[
        *("text", "nothing", "half a header", "too short", "two at once", "channel data cut short"),
        *("channel data and more", "HTTP", "noise", "too long"),
    ],
)
def test_what_is_not_one_turn_message_ends_the_tunnel(relay, url, message, code):
    with raw(url) as websocket:
        websocket.send(message)
        assert closed_with(websocket) == code
    assert relay.get("/readyz")[0] == 200


def test_a_message_in_fragments_is_one_message(url):
    request = Message(MessageClass.REQUEST, Method.BINDING).encode()
    with raw(url) as websocket:
        websocket.send([request[:7], request[7:]])
        assert Message.decode(websocket.recv(5)).message_class is MessageClass.SUCCESS_RESPONSE


def test_a_client_that_reads_nothing_loses_data_and_the_relay_no_memory(relay, url, peer):
    client = TunnelClient(url, ACCESS.username, ACCESS.password, max_queue=1)
    client.bind(CHANNEL, peer.address)
    before = resident_bytes(relay.process.pid)
    for _ in range(40_000):  # 40 MB, and websockets reads on only when somebody takes a message
        peer.sock.sendto(bytes(1000), tuple(client.relayed))
    assert resident_bytes(relay.process.pid) - before < 16 << 20
    deadline = time.monotonic() + 10
    while not relay.scrape().total("turnrelay_dropped_packets_total", reason="client_congested"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    client.websocket.socket.close()


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096


def test_tunnels_are_limited_by_prefix_and_places_come_back(address, tmp_path, monkeypatch):
    (tmp_path / "limits.toml").write_text("[limits]\ntcp_connections_per_prefix = 2\ntcp_idle_seconds = 3\n")
    flags = ["--config", str(tmp_path / "limits.toml")]
    with TurnRelayServer(Site.prepare(tmp_path / "relay", address), ACCESS, flags=flags):
        url = f"ws://{address}:{HTTP_PORT}/v1/tunnel"
        holder = TunnelClient(url, ACCESS.username, ACCESS.password)
        with raw(url) as idle:
            with pytest.raises(InvalidStatus) as refused, raw(url):
                pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "60"
            # One that holds an allocation may be silent, one without is closed.
            with pytest.raises(ConnectionClosed):
                idle.recv(10)
        with raw(url):
            assert holder.refresh(600).message_class is MessageClass.SUCCESS_RESPONSE
        holder.close()


def test_the_tunnel_can_be_switched_off(address, tmp_path):
    site = Site.prepare(tmp_path / "relay", address)
    with TurnRelayServer(site, ACCESS, flags=["--tunnel", "off"]) as relay:
        assert relay.get("/v1/tunnel")[0] == 404


@pytest.mark.parametrize(("trusted", "seen"), [(True, "203.0.113.9"), (False, "127.0.0.1")])
def test_behind_a_proxy_that_is_trusted_the_client_is_who_it_says(address, tmp_path, trusted, seen):
    flags = ["--trusted-proxy", "127.0.0.0/8"] if trusted else []
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    with TurnRelayServer(Site.prepare(tmp_path / "relay", address), ACCESS, flags=flags):
        url = f"ws://{address}:{HTTP_PORT}/v1/tunnel"
        options = {"additional_headers": forwarded, "proxy": None, "subprotocols": TURN}
        with connect(url, **options) as first, connect(url, **options) as second:
            for websocket in (first, second):
                request = Message(MessageClass.REQUEST, Method.BINDING)
                websocket.send(request.encode())
                answer = Message.decode(websocket.recv(5))
                assert answer.transaction_id == request.transaction_id
                assert answer.get(XOR_MAPPED_ADDRESS).host == seen
