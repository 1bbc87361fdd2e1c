"""A relay of several processes is one relay: to its clients, its operator, and when one of them dies."""

import os
import select
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from reliability.turn_peer import DatagramClient, Peer, TunnelClient
from reliability.workers import RelayOfTwo, error_of, eventually, site, succeeded
from stunwire import DATA, XOR_PEER_ADDRESS, Message, MessageClass, Method, TransportAddress
from support.metrics import Scrape
from support.ports import loopback_address
from support.processes import Process, is_alive
from support.relay import Access
from turnrelay.observe.trace import records, trace

pytestmark = pytest.mark.slow

CHANNEL = 0x4000
OPEN = Access(allowed_peers=("127.0.0.0/8",))
CLOSED = Access()
"""No peer on this machine but relayed addresses."""


@pytest.fixture
def address() -> Iterator[str]:
    with loopback_address() as found:
        yield found


@pytest.fixture
def peer(address: str) -> Iterator[Peer]:
    peer = Peer(address)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    yield peer
    peer.close()


class Traffic:
    """Clients that send numbered packets to one peer, and what came there."""

    def __init__(self, peer: Peer, clients: list[DatagramClient]) -> None:
        self._peer = peer
        self._clients = clients
        self._stop = threading.Event()
        self._over = threading.Event()
        self.sent: Counter[int] = Counter()
        self.received: Counter[int] = Counter()

    def __enter__(self) -> "Traffic":
        self._sender = threading.Thread(target=self._send)
        self._receiver = threading.Thread(target=self._receive)
        for thread in (self._sender, self._receiver):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sender.join()
        deadline = time.monotonic() + 10
        while self.received.total() < self.sent.total() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)  # for what comes twice
        self._over.set()
        self._receiver.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            for number, client in enumerate(self._clients):
                client.send(CHANNEL, struct.pack("!II", number, self.sent[number]) + bytes(100))
                self.sent[number] += 1
            time.sleep(0.002)

    def _receive(self) -> None:
        self._peer.sock.settimeout(0.2)
        while not self._over.is_set():
            with suppress(TimeoutError):
                data = self._peer.sock.recv(1000)
                self.received[struct.unpack_from("!II", data)[0]] += 1


def test_a_killed_worker_comes_back_and_nobody_elses_flow_loses_a_packet(address, peer, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN, allocations_per_user=6) as relay:
        of = relay.clients_of_both(each=3)
        for client in (*of[1], *of[2]):
            assert succeeded(client.bind(CHANNEL, peer.address))
        assert error_of(relay.client().allocate()) == 486
        eventually(lambda: relay.scrape().total("turnrelay_allocations") == 6, "not all are counted")
        kept = _kept(relay.scrape())
        with Traffic(peer, of[1]) as traffic:
            time.sleep(0.3)
            away = relay.kill(2)
            time.sleep(0.3)
        print(f"the worker was back after {away * 1000:.0f} ms")
        assert traffic.sent == traffic.received
        assert relay.process.returncode is None

        # Its clients learn it as TURN tells it, keep their nonce, and get their places back.
        assert [error_of(client.refresh(600)) for client in of[2]] == [437] * 3
        assert [error_of(client.allocate()) for client in of[2]] == [0] * 3
        assert error_of(relay.client().allocate()) == 486
        assert [error_of(client.refresh(600)) for client in of[1]] == [0] * 3
        eventually(
            lambda: relay.scrape().total("turnrelay_allocations") == 6, "the dead worker's are counted"
        )
        page = relay.scrape()
        assert _kept(page) == kept + 3
        assert page.total("turnrelay_worker_restarts_total", worker="2") == 1
        assert page.total("turnrelay_worker_restarts_total", worker="1") == 0
        assert page.total("turnrelay_worker_up") == 2
        assert page.total("turnrelay_allocations_ended_total", reason="worker_lost") == 3


def _kept(page: Scrape) -> float:
    """Allocations that were made and that no client has deleted: a worker may tell of those later."""
    deleted = page.total("turnrelay_allocations_ended_total", reason="deleted")
    return page.total("turnrelay_allocations_created_total") - deleted


def test_each_allocation_of_a_killed_worker_has_its_last_line(address, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN, flags=["--log-level", "debug"]) as relay:
        of = relay.clients_of_both(each=3)
        # What a worker has not told yet is lost with it, the beginning as well as the end.
        eventually(lambda: _are_begun(relay) == 6, "a line misses")
        before = _of_the_log(relay, "allocation ended")
        relay.kill(2)
        # What was printed is read as it comes.
        eventually(lambda: len(_of_the_log(relay, "allocation ended")) >= len(before) + 3, "a line misses")
        lost = [line for line in _of_the_log(relay, "allocation ended") if line not in before]
        assert [(line["reason"], line["account"]) for line in lost] == [("worker_lost", "alice")] * 3
        for client in of[1]:
            assert succeeded(client.refresh(0))
        created = {line["allocation"] for line in _of_the_log(relay, "allocation created")}
        eventually(
            lambda: (
                sorted(line["allocation"] for line in _of_the_log(relay, "allocation ended"))
                == sorted(created)
            ),
            "not every allocation has one last line",
        )
        told = "\n".join(trace(relay.process.output().splitlines(), lost[0]["allocation"]))
        assert "worker process that it lived in died" in told


def _are_begun(relay: RelayOfTwo) -> int:
    """Allocations that have begun and not ended, as the log has it."""
    return len(_of_the_log(relay, "allocation created")) - len(_of_the_log(relay, "allocation ended"))


def _of_the_log(relay: RelayOfTwo, event: str) -> list[dict[str, Any]]:
    return [line for line in records(relay.process.output().splitlines()) if line["event"] == event]


def test_a_worker_that_dies_again_and_again_leaves_the_other_one_alone(address, peer, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        [client] = relay.clients_of_both()[1]
        assert succeeded(client.bind(CHANNEL, peer.address))
        with Traffic(peer, [client]) as traffic:
            for _ in range(3):
                relay.kill(2)
        assert traffic.sent == traffic.received
        eventually(lambda: relay.get("/readyz")[0] == 200, "it is not ready again")


def test_limits_are_those_of_the_whole(address, tmp_path):
    limits = {
        "allocations_per_user": 25,
        "tcp_connections_per_prefix": 9,
        "unauthenticated_per_prefix_per_second": 1,
        "unauthenticated_per_prefix_burst": 300,
    }
    with RelayOfTwo(site(tmp_path, address), OPEN, **limits) as relay, ExitStack() as stack:
        clients = [relay.client() for _ in range(60)]
        for client in clients:
            stack.callback(client.close)
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda client: error_of(client.allocate()), clients))
        assert Counter(answers) == {0: 25, 486: 35}
        served = [client for client, answer in zip(clients, answers, strict=True) if answer == 0]
        assert {relay.worker_of(client) for client in served} == {1, 2}
        for client in served[:5]:
            assert succeeded(client.refresh(0))
        refused = [client for client, answer in zip(clients, answers, strict=True) if answer]
        assert Counter(error_of(client.allocate()) for client in refused[:10]) == {0: 5, 486: 5}

        connections = [
            stack.enter_context(socket.create_connection((address, relay.port))) for _ in range(20)
        ]
        assert sum(_is_answered(connection) for connection in connections) == 9

        # 60 challenges and 9 Bindings were answered before.
        start = time.monotonic()
        answered = _answered_bindings((address, relay.port), 25, 20, 231)
        most = 300 - 69 + (time.monotonic() - start) + 60
        assert 231 <= answered <= most


def _is_answered(connection: socket.socket) -> bool:
    connection.settimeout(5.0)
    try:
        connection.sendall(Message(MessageClass.REQUEST, Method.BINDING).encode())
        return bool(connection.recv(1000))
    except OSError:
        return False


def _answered_bindings(server: tuple[str, int], sockets: int, requests: int, least: int) -> int:
    """How many requests are answered, of so many from each of so many sockets; waits longer for the least."""
    with ExitStack() as stack:
        asking = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(sockets)
        ]
        for sock in asking:
            sock.connect(server)
            for _ in range(requests):
                sock.send(Message(MessageClass.REQUEST, Method.BINDING).encode())
        answered = 0
        while ready := select.select(asking, [], [], 10.0 if answered < least else 1.0)[0]:
            answered += sum(bool(sock.recv(1000)) for sock in ready)
        return answered


def test_the_bandwidth_of_a_user_is_one_wherever_it_is_spent(address, peer, tmp_path):
    rate, burst = 20_000, 65_536
    with RelayOfTwo(site(tmp_path, address), OPEN, bandwidth_per_user=rate) as relay:
        of = relay.clients_of_both()
        clients = [of[1][0], of[2][0]]
        for client in clients:
            assert succeeded(client.bind(CHANNEL, peer.address))
        start = time.monotonic()
        for _ in range(200):
            for client in clients:
                client.send(CHANNEL, bytes(1000))
            time.sleep(0.001)
        received = 0
        try:
            while True:
                peer.sock.settimeout(10.0 if received < burst - 2000 else 1.0)
                received += len(peer.sock.recv(2000))
        except TimeoutError:
            most = burst + rate * (time.monotonic() - start)
        assert burst - 2000 <= received <= most * 1.05
        eventually(
            lambda: relay.scrape().total("turnrelay_dropped_packets_total", reason="bandwidth") >= 1,
            "the drops are not counted",
        )


def test_metrics_are_what_the_clients_counted(address, peer, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        of = relay.clients_of_both(each=2)
        clients = [*of[1], *of[2]]
        for client in clients:
            assert succeeded(client.bind(CHANNEL, peer.address))
        before = relay.scrape()
        sent = 0
        for number in range(50):
            for client in clients:
                client.send(CHANNEL, bytes(100 + number))
                data, relayed = peer.sock.recvfrom(1000)
                peer.sock.sendto(data, relayed)
                assert client.frame()[4:] == data
                sent += len(data)

        def told(name: str) -> list[float]:
            page = relay.scrape()
            return [
                page.total(name, direction=direction, transport="udp")
                - before.total(name, direction=direction, transport="udp")
                for direction in ("to_peer", "from_peer")
            ]

        eventually(lambda: told("turnrelay_relayed_packets_total") == [200, 200], "packets are missing")
        assert told("turnrelay_relayed_bytes_total") == [sent, sent]
        page = relay.scrape()
        assert page.total("turnrelay_allocations", transport="udp") == 4
        assert page.total("turnrelay_channels") == 4
        assert page.total("turnrelay_relay_ports_in_use") == 4
        assert page.total("turnrelay_relay_ports") == 16384
        assert page.total("turnrelay_requests_total", method="channel_bind", result="success") == 4
        assert page.total("turnrelay_request_duration_seconds_count", method="channel_bind") == 4


def test_a_relayed_address_of_another_worker_is_a_peer_while_it_lives(address, tmp_path):
    with RelayOfTwo(site(tmp_path, address), CLOSED) as relay:
        of = relay.clients_of_both()
        one, other = of[1][0], of[2][0]
        assert one.relayed is not None
        assert other.relayed is not None
        nobody = TransportAddress(address, _unused(one, other))
        assert error_of(one.permit(nobody)) == 403
        assert error_of(one.bind(CHANNEL, nobody)) == 403
        assert succeeded(one.bind(CHANNEL, other.relayed))
        assert succeeded(other.permit(one.relayed))
        one.send(CHANNEL, b"as a channel")
        indication = Message.decode(other.frame())
        assert indication.get(XOR_PEER_ADDRESS) == one.relayed
        assert indication.get(DATA) == b"as a channel"
        assert succeeded(other.bind(CHANNEL, one.relayed))
        other.send(CHANNEL, b"and back")
        assert one.frame()[4:] == b"and back"
        one.send(CHANNEL, b"channel to channel")
        assert other.frame()[4:] == b"channel to channel"

        # Once it is gone, its port is as closed as any other, whoever has it then.
        assert succeeded(other.refresh(0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            _bind(stranger, other.relayed)
            stranger.settimeout(0.5)
            one.send(CHANNEL, b"for nobody")
            with pytest.raises(TimeoutError):
                stranger.recv(100)
        assert error_of(one.permit(other.relayed)) == 403
        eventually(
            lambda: relay.scrape().total("turnrelay_dropped_packets_total", reason="no_such_relay") == 1,
            "the drop is not counted",
        )


def _bind(sock: socket.socket, to: TransportAddress) -> None:
    """As soon as the relay has closed its own; its answer is there a moment before."""

    def is_bound() -> bool:
        with suppress(OSError):
            sock.bind(tuple(to))
            return True
        return False

    eventually(is_bound, "the relay keeps a port that nobody has")


def _unused(*clients: DatagramClient) -> int:
    used = {client.relayed.port for client in clients if client.relayed is not None}
    return next(port for port in range(50000, 50010) if port not in used)


def test_the_port_range_is_used_up_by_both_together(address, tmp_path):
    # Below those that the system gives to everybody.
    flags = ["--min-port", "20000", "--max-port", "20019"]
    with RelayOfTwo(site(tmp_path, address), OPEN, flags=flags) as relay:
        clients = [relay.client() for _ in range(24)]
        answers = Counter(error_of(client.allocate()) for client in clients)
        assert answers == {0: 20, 508: 4}
        relayed = [client.relayed for client in clients if client.relayed is not None]
        assert {each.port for each in relayed} == set(range(20000, 20020))


def test_a_tunnel_is_a_client_like_any_other(address, peer, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN, allocations_per_user=2) as relay:
        url = f"ws://{address}:9641/v1/tunnel"
        client = TunnelClient(url, OPEN.username, OPEN.password)
        assert succeeded(client.bind(CHANNEL, peer.address))
        client.send(CHANNEL, b"through HTTP")
        assert peer.sock.recv(100) == b"through HTTP"
        [first, second] = [relay.client(), relay.client()]
        assert [error_of(first.allocate()), error_of(second.allocate())] == [0, 486]
        assert succeeded(client.request(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, first.relayed)))
        assert succeeded(first.bind(CHANNEL, client.relayed))
        first.send(CHANNEL, b"from a worker to the supervisor")
        assert Message.decode(client.frame()).get(DATA) == b"from a worker to the supervisor"
        client.close()
        eventually(lambda: error_of(second.allocate()) == 0, "its place is not given back")


def test_a_new_certificate_is_everybodys(address, tmp_path):
    import ssl

    import trustme

    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:

        def served() -> set[bytes]:
            """The certificates that new connections get."""
            found = set()
            for _ in range(12):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                raw = socket.create_connection((address, relay.tls_port), timeout=10)
                with context.wrap_socket(raw) as tls:
                    found.add(tls.getpeercert(binary_form=True) or b"")
            return found

        before = served()
        issued = trustme.CA().issue_cert("relay.test")
        issued.cert_chain_pems[0].write_to_path(relay.site.certificates.chain)
        issued.private_key_pem.write_to_path(relay.site.certificates.key)
        relay.process.signal(signal.SIGHUP)
        after = {ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())}
        eventually(lambda: served() == after, "a worker has the old certificate")
        assert before != after


def test_stopping_stops_everybody_and_says_so_to_nobody_too_early(address, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        of = relay.clients_of_both()
        pids = list(relay.workers().values())
        assert relay.get("/readyz")[0] == 200
        relay.process.signal(signal.SIGINT)
        eventually(lambda: relay.process.returncode is not None, "it does not stop")
        assert relay.process.returncode == 0
        assert not any(is_alive(pid) for pid in pids)
        log = relay.process.output()
        assert log.count('"reason": "shutdown"') == len(of)
        assert "worker ended" not in log


def test_workers_do_not_outlive_their_supervisor_whose_next_one_serves_at_once(address, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        pids = list(relay.workers().values())
        os.kill(relay.process.pid, signal.SIGKILL)
        eventually(lambda: not any(is_alive(pid) for pid in pids), "workers are left over")
        with Process(relay.process.argv) as next_one:
            next_one.wait_until(lambda: relay.get("/readyz")[0] == 200)


def test_an_address_that_another_relay_has_is_not_shared_with_it(address, tmp_path):
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        argv = [*relay.process.argv, "--http", "off", "--data-dir", str(tmp_path / "other")]
        with Process(argv) as second:
            assert second._popen.wait(60) == 1
            assert "is another relay running there?" in second.output()


def test_a_worker_that_cannot_serve_is_the_relays_failure(address, tmp_path):
    where = site(tmp_path, address)
    (Path(where.folder) / "data").mkdir()
    with RelayOfTwo(where, OPEN) as relay:
        # A file that is no database: the supervisor has looked at it already, a new worker does now.
        member, before = 2, relay.workers()
        (where.folder / "data" / "users.sqlite3").write_bytes(b"not a database" * 100)
        os.kill(before[member], signal.SIGKILL)
        eventually(lambda: "users.sqlite3" in relay.process.output(), "nobody is told why")
        eventually(lambda: relay.get("/readyz")[0] == 503, "it says that it is ready")
        (where.folder / "data" / "users.sqlite3").unlink()
        eventually(lambda: relay.get("/readyz")[0] == 200, "it does not recover")
