"""What one worker gave out and another is asked for: reserved ports, data connections of TCP relays."""

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path

import pytest
from interop.test_tcp_relay import Caller, Stream, ends, listening
from reliability.turn_peer import DatagramClient, Peer, TunnelClient
from reliability.workers import RelayOfSeveral, RelayOfTwo, error_of, eventually, site, succeeded
from stunwire import (
    CONNECTION_ID,
    EVEN_PORT,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from support.ports import loopback_address
from support.relay import Access

pytestmark = pytest.mark.slow

CHANNEL = 0x4000
MOST_TRIES = 400
OPEN = Access(allowed_peers=("127.0.0.0/8",))
SUPERVISOR = 0
TCP_RELAY = ("--tcp-relay", "on")


@pytest.fixture
def address() -> Iterator[str]:
    with loopback_address() as found:
        yield found


@pytest.fixture
def peer(address: str) -> Iterator[Peer]:
    peer = Peer(address)
    yield peer
    peer.close()


def reserve(client: DatagramClient) -> tuple[bytes, TransportAddress]:
    """The token, and the address that it stands for."""
    answer = client.allocate((EVEN_PORT, True))
    assert succeeded(answer)
    token, relayed = answer.get(RESERVATION_TOKEN), answer.get(XOR_RELAYED_ADDRESS)
    assert token is not None
    assert relayed is not None
    return token, relayed._replace(port=relayed.port + 1)


def relays(client: DatagramClient, peer: Peer) -> bool:
    """Whether data passes both ways."""
    assert succeeded(client.bind(CHANNEL, peer.address))
    client.send(CHANNEL, b"there")
    data, relayed = peer.sock.recvfrom(100)
    peer.sock.sendto(data + b" and back", relayed)
    return relayed == client.relayed and client.frame()[4:] == b"there and back"


@pytest.mark.parametrize("workers", [2, 4])
def test_a_reserved_port_comes_to_whoever_redeems_it(
    address: str, peer: Peer, tmp_path: Path, workers: int
) -> None:
    with RelayOfSeveral(site(tmp_path, address), OPEN, workers, allocations_per_user=2) as relay:
        members = range(1, workers + 1)
        missing, rounds = set(product(members, members)), 0
        for _ in range(MOST_TRIES):
            rounds += 1
            first, second = relay.client(), relay.client()
            token, reserved = reserve(first)
            answer = second.allocate((RESERVATION_TOKEN, token))
            assert succeeded(answer), error_of(answer)
            assert second.relayed == reserved
            missing.discard((token[0], relay.worker_of(second)))
            assert relays(second, peer)
            assert relays(first, peer)
            third = relay.client()
            assert error_of(third.allocate()) == 486
            assert error_of(third.allocate((RESERVATION_TOKEN, token))) == 508
            assert [error_of(each.refresh(0)) for each in (first, second)] == [0, 0]
            for client in (first, second, third):
                client.close()
            if not missing:
                break
        assert not missing, "the system sends clients to some workers only"

        def counted() -> list[float]:
            page = relay.scrape()
            return [
                page.total("turnrelay_allocations_refused_total", reason="reservation_token"),
                page.total("turnrelay_allocations_created_total"),
                page.total("turnrelay_allocations"),
                page.total("turnrelay_relay_ports_in_use"),
            ]

        eventually(lambda: counted() == [rounds, 2 * rounds, 0, 0], "some are not counted")


def test_a_reserved_port_goes_in_and_out_of_a_tunnel(address: str, peer: Peer, tmp_path: Path) -> None:
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        client, url = relay.client(), f"ws://{address}:9641/v1/tunnel"
        with_token, _ = reserve(client)
        tunnel = TunnelClient(url, OPEN.username, OPEN.password)
        assert succeeded(tunnel.refresh(0))
        answer = tunnel.request(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (RESERVATION_TOKEN, with_token))
        assert succeeded(answer)
        assert succeeded(tunnel.refresh(0))
        answer = tunnel.request(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (EVEN_PORT, True))
        token = answer.get(RESERVATION_TOKEN)
        assert token is not None
        assert token[0] == SUPERVISOR
        second = relay.client()
        assert succeeded(second.allocate((RESERVATION_TOKEN, token)))
        assert relays(second, peer)
        tunnel.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_token_of_a_worker_that_is_away_is_refused_soon(
    address: str, tmp_path: Path, how: signal.Signals
) -> None:
    with RelayOfTwo(site(tmp_path, address), OPEN) as relay:
        clients = relay.clients_of_both()
        [reserving], [redeeming] = clients[1], clients[2]
        assert succeeded(reserving.refresh(0))
        token, _ = reserve(reserving)
        assert token[0] == 1
        assert succeeded(redeeming.refresh(0))
        pid = relay.workers()[1]
        os.kill(pid, how)
        assert error_of(redeeming.allocate((RESERVATION_TOKEN, token))) == 508
        if how is signal.SIGSTOP:
            # It gives the port then, and nobody wants it any more.
            os.kill(pid, signal.SIGCONT)
            eventually(lambda: relay.scrape().total("turnrelay_relay_ports_in_use") == 1, "a port is lost")
            assert succeeded(reserving.refresh(0))
        assert succeeded(redeeming.allocate())


class DataStream(Stream):
    """A connection that is to carry data, by TCP or TLS."""

    def __init__(self, relay: RelayOfSeveral, *, tls: bool) -> None:
        self._access, self._nonce = relay.access, None
        port = relay.tls_port if tls else relay.port
        self.sock = socket.create_connection((relay.site.address, port), timeout=20)
        self.local = self.sock.getsockname()
        if tls:
            context = ssl.create_default_context(cafile=relay.site.certificates.authority)
            self.sock = context.wrap_socket(self.sock, server_hostname=relay.site.address)

    def bind(self, connection_id: int) -> Message:
        return self.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id))


def admitted(relay: RelayOfSeveral, *, tls: bool) -> DataStream:
    """A connection that the relay takes, once it has seen that earlier ones ended."""
    found: list[DataStream] = []

    def is_taken() -> bool:
        with suppress(OSError, AssertionError):
            stream = DataStream(relay, tls=tls)
            if error_of(stream.ask(Method.CONNECTION_BIND)) == 400:
                found.append(stream)
            else:
                stream.sock.close()
        return bool(found)

    eventually(is_taken, "places of connections that ended are not given back")
    return found[0]


def connect(caller: Caller, peer: TransportAddress) -> int:
    """The CONNECTION-ID of a new connection."""
    connection_id = caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, peer)).get(CONNECTION_ID)
    assert connection_id is not None
    return connection_id


def exchange(one: socket.socket, other: socket.socket, data: bytes) -> bool:
    """Whether `data` arrives whole, there and back. A socket with TLS is for one thread at a time."""
    return all(arrives(data, *ends_of_it) for ends_of_it in ((one, other), (other, one)))


def arrives(data: bytes, sender: socket.socket, receiver: socket.socket) -> bool:
    received = bytearray()
    writer = threading.Thread(target=sender.sendall, args=(data,))
    writer.start()
    while len(received) < len(data) and (part := receiver.recv(1 << 16)):
        received += part
    writer.join(30)
    return bytes(received) == data


@pytest.mark.parametrize("tls", [False, True], ids=["TCP", "TLS"])
@pytest.mark.parametrize("workers", [2, 4])
def test_data_connections_find_their_allocation(
    address: str, tmp_path: Path, workers: int, tls: bool
) -> None:
    data = os.urandom(300_000)
    limits = {"tcp_connections_per_prefix": workers + 2}
    with (
        RelayOfSeveral(site(tmp_path, address), OPEN, workers, flags=TCP_RELAY, **limits) as relay,
        listening() as (server, peer_address),
        ExitStack() as stack,
    ):
        callers: dict[int, Caller] = {}
        while len(callers) < workers:
            caller = Caller(relay)
            home = relay.acceptor_of(caller.sock.getsockname())
            if callers.setdefault(home, caller) is not caller:
                caller.sock.close()
        members = range(1, workers + 1)
        missing = set(product(members, members))
        for number in range(MOST_TRIES):
            home = min(missing)[0]
            stream = admitted(relay, tls=tls)
            stack.callback(stream.sock.close)
            acceptor = relay.acceptor_of(stream.local)
            if (home, acceptor) not in missing:
                stream.sock.close()
                continue
            connection_id = connect(callers[home], peer_address)
            assert connection_id >> 24 == home
            peer = stack.enter_context(server.accept()[0])
            peer.settimeout(20)
            assert error_of(stream.bind(connection_id)) == 0
            assert exchange(stream.sock, peer, data)
            ending, waiting = (stream.sock, peer) if number % 2 else (peer, stream.sock)
            ending.close()
            assert ends(waiting)
            waiting.close()
            missing.discard((home, acceptor))
            if not missing:
                break
        assert not missing, "the system sends clients to some workers only"

        # Nothing is left of them: as many connections as ever may be made, and no more.
        free = [admitted(relay, tls=False) for _ in range(2)]
        with pytest.raises((AssertionError, OSError)):
            DataStream(relay, tls=False).ask(Method.CONNECTION_BIND)
        assert len(free) == 2
        moved = len(data) * workers**2
        eventually(
            lambda: (
                [
                    relay.scrape().total("turnrelay_relayed_bytes_total", direction=direction)
                    for direction in ("to_peer", "from_peer")
                ]
                == [moved, moved]
            ),
            "bytes are counted twice, or not at all",
        )


def crossing(relay: RelayOfSeveral, caller: Caller, *, tls: bool) -> DataStream:
    """A connection to another worker than the caller's."""
    home = relay.acceptor_of(caller.sock.getsockname())
    while True:
        stream = DataStream(relay, tls=tls)
        if relay.acceptor_of(stream.local) != home:
            return stream
        stream.sock.close()


@pytest.mark.parametrize("tls", [False, True], ids=["TCP", "TLS"])
def test_data_that_waits_in_another_worker_holds_the_sender_back(
    address: str, tmp_path: Path, tls: bool
) -> None:
    sent = os.urandom(24 << 20)
    with (
        RelayOfTwo(site(tmp_path, address), OPEN, flags=TCP_RELAY) as relay,
        listening() as (server, peer_address),
    ):
        caller = Caller(relay)
        stream = crossing(relay, caller, tls=tls)
        connection_id = connect(caller, peer_address)
        peer = server.accept()[0]
        assert error_of(stream.bind(connection_id)) == 0
        writer = threading.Thread(target=stream.sock.sendall, args=(sent,))
        writer.start()
        time.sleep(1)
        assert writer.is_alive(), "nothing held the client back"
        peer.settimeout(20)
        received = bytearray()
        while len(received) < len(sent) and (part := peer.recv(1 << 16)):
            received += part
        writer.join(20)
        assert bytes(received) == sent
        stream.sock.close()
        assert ends(peer)


@pytest.mark.parametrize("tls", [False, True], ids=["TCP", "TLS"])
def test_who_may_not_bind_a_connection_may_not_do_so_elsewhere(
    address: str, tmp_path: Path, tls: bool
) -> None:
    with (
        RelayOfTwo(
            site(tmp_path, address), OPEN, flags=["--tcp-relay", "on", "--user", "eve:dropper"]
        ) as relay,
        listening() as (_, peer_address),
    ):
        caller = Caller(relay)
        connection_id = connect(caller, peer_address)
        stranger = crossing(relay, caller, tls=tls)
        stranger._access = Access(username="eve", password="dropper")
        assert error_of(stranger.bind(connection_id)) == 441
        assert error_of(stranger.bind(connection_id ^ 1)) == 400
        hasty = crossing(relay, caller, tls=tls)
        assert error_of(hasty.ask(Method.CONNECTION_BIND)) == 400
        request = Message(MessageClass.REQUEST, Method.CONNECTION_BIND).add(CONNECTION_ID, connection_id)
        hasty.sock.sendall(hasty._sealed(request) + b"\x00\x01")
        assert ends(hasty.sock), "data before the answer ends the connection"
        rightful = crossing(relay, caller, tls=tls)
        assert error_of(rightful.bind(connection_id)) == 0


def test_a_worker_that_ends_ends_what_it_served_and_what_led_to_it(address: str, tmp_path: Path) -> None:
    with (
        RelayOfTwo(site(tmp_path, address), OPEN, flags=TCP_RELAY) as relay,
        listening() as (one_server, one_address),
        listening() as (other_server, other_address),
    ):
        caller = Caller(relay)
        tcp, tls = (crossing(relay, caller, tls=tls) for tls in (False, True))
        assert error_of(tcp.bind(connect(caller, one_address))) == 0
        assert error_of(tls.bind(connect(caller, other_address))) == 0
        relay.kill(relay.acceptor_of(caller.sock.getsockname()))
        accepted = (one_server.accept()[0], other_server.accept()[0])
        assert all(ends(sock) for sock in (caller.sock, tcp.sock, tls.sock, *accepted))


def test_tcp_relays_of_two_workers_are_each_others_peers(address: str, tmp_path: Path) -> None:
    with RelayOfTwo(site(tmp_path, address), Access(), flags=TCP_RELAY) as relay:
        one = Caller(relay)
        home = relay.acceptor_of(one.sock.getsockname())
        while relay.acceptor_of((other := Caller(relay)).sock.getsockname()) == home:
            other.sock.close()
        with pytest.raises(AssertionError):
            connect(one, other.relayed._replace(port=other.relayed.port ^ 8))
        assert error_of(other.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, one.relayed))) == 0
        connection_id = connect(one, other.relayed)
        attempt = other.read()
        assert attempt.get(XOR_PEER_ADDRESS) == one.relayed
        there, back = DataStream(relay, tls=False), DataStream(relay, tls=False)
        assert error_of(there.bind(connection_id)) == 0
        arrived = attempt.get(CONNECTION_ID)
        assert arrived is not None
        assert error_of(back.bind(arrived)) == 0
        assert exchange(there.sock, back.sock, os.urandom(100_000))

        # A port that relays UDP says nothing of its TCP side.
        datagrams = relay.clients_of_both()
        for client in (*datagrams[1], *datagrams[2]):
            assert client.relayed is not None
            assert error_of(one.ask(Method.CONNECT, (XOR_PEER_ADDRESS, client.relayed))) == 403
            assert error_of(client.permit(other.relayed)) == 403
