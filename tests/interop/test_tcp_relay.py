"""TCP relays (RFC 6062) under coturn's client, and under plain sockets with peers that behave badly."""

import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from interop.conftest import LOOPBACK_ACCESS
from stunwire import (
    CONNECTION_ID,
    ERROR_CODE,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Integrity,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from support.ports import loopback_address
from support.relay import Relay, Site, Transport
from support.turnrelay_server import TurnRelayServer
from support.uclient import INTERVAL_MS, Report, UClient

SENDING_MS, LENGTH, CLIENTS = 1500, 400, 4
TRANSPORTS: tuple[Transport, ...] = ("tcp", "tls")
TCP = 6
TIMEOUT = 30
LIMITED = 200_000
"""Bytes a second."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnRelayServer]:
    site_folder = tmp_path_factory.mktemp("tcp-relay")
    with (
        loopback_address() as address,
        TurnRelayServer(
            Site.prepare(site_folder, address), LOOPBACK_ACCESS, flags=["--tcp-relay", "on"]
        ) as server,
    ):
        yield server


class Stream:
    """A connection to the relay on which STUN is spoken, with the answers waited for one by one."""

    def __init__(self, relay: Relay, *, secure: bool = False) -> None:
        self._access = relay.access
        port = relay.tls_port if secure else relay.port
        self.sock = socket.create_connection((relay.site.address, port), TIMEOUT)
        if secure:
            tls = ssl.create_default_context(cafile=str(relay.site.certificates.authority))
            self.sock = tls.wrap_socket(self.sock, server_hostname=relay.site.address)
        self._nonce: str | None = None

    def read(self) -> Message:
        header = self.take(20)
        return Message.decode(header + self.take(int.from_bytes(header[2:4], "big")))

    def take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.sock.recv(min(size - len(data), 1 << 16))
            assert part, f"the stream ended after {len(data)} of {size} bytes"
            data += part
        return bytes(data)

    def ask(self, method: int, *pairs: tuple) -> Message:
        while True:
            message = Message(MessageClass.REQUEST, method)
            for attribute, value in pairs:
                message.add(attribute, value)
            self.sock.sendall(self._sealed(message))
            answer = self.read()
            if self._nonce is not None:
                return answer
            self._nonce = answer.get(NONCE)

    def _sealed(self, message: Message) -> bytes:
        if self._nonce is None:
            return message.encode()
        access = self._access
        message.add(USERNAME, access.username).add(REALM, access.realm).add(NONCE, self._nonce)
        secret = f"{access.username}:{access.realm}:{access.password}".encode()
        return message.encode(hashlib.md5(secret).digest(), Integrity.SHA1)


def error_of(answer: Message) -> int | None:
    error = answer.get(ERROR_CODE)
    return None if error is None else error.code


class Caller(Stream):
    """A control connection with a TCP allocation."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._relay = relay
        allocated = self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, TCP))
        assert error_of(allocated) is None
        relayed = allocated.get(XOR_RELAYED_ADDRESS)
        assert relayed is not None
        self.relayed = relayed

    def connect(self, peer: TransportAddress, *, secure: bool = False) -> Stream:
        answer = self.ask(Method.CONNECT, (XOR_PEER_ADDRESS, peer))
        assert error_of(answer) is None
        return self.bind(answer, secure=secure)

    def bind(self, named: Message, *, secure: bool = False) -> Stream:
        data = Stream(self._relay, secure=secure)
        connection_id = named.get(CONNECTION_ID)
        assert connection_id is not None
        assert error_of(data.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id))) is None
        return data


@contextmanager
def listening() -> Iterator[tuple[socket.socket, TransportAddress]]:
    with loopback_address() as address, socket.create_server((address, 0)) as server:
        server.settimeout(TIMEOUT)
        yield server, TransportAddress(*server.getsockname())


def ends(sock: socket.socket) -> bool:
    """Whether nothing but the end of the stream comes."""
    sock.settimeout(TIMEOUT)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_turned_away(address: TransportAddress) -> bool:
    """Whether a connection to the address ends before anything was said."""
    try:
        with socket.create_connection(address, TIMEOUT) as sock:
            return ends(sock)
    except ConnectionResetError:
        return True


def test_uclient_loses_nothing_over_tcp_relays(relay: TurnRelayServer) -> None:
    with ExitStack() as stack:
        runs = []
        for transport in TRANSPORTS:
            messages, tally = SENDING_MS // INTERVAL_MS[transport], relay.tally(transport)
            tool = UClient(relay, transport, ("-T", "-m", str(CLIENTS)), messages=messages, length=LENGTH)
            runs.append((stack.enter_context(tool), tally, messages * CLIENTS))
        for tool, tally, sent in runs:
            assert tool.report() == Report(sent=sent, received=sent, lost=0, dropped=0)
            tally.must_reach(sent * LENGTH)


def test_a_long_stream_arrives_whole_though_the_peer_reads_late(relay: TurnRelayServer) -> None:
    """Far more than the relay and two pairs of sockets hold: the client has to wait for the peer."""
    sent = os.urandom(24 << 20)
    with listening() as (server, address):
        caller = Caller(relay)
        data = caller.connect(address)
        peer = server.accept()[0]
        peer.settimeout(TIMEOUT)
        writer = threading.Thread(target=data.sock.sendall, args=(sent,))
        writer.start()
        time.sleep(1)
        assert writer.is_alive(), "nothing held the client back"
        received = bytearray()
        while len(received) < len(sent) and (part := peer.recv(1 << 16)):
            received += part
        writer.join(TIMEOUT)
        assert bytes(received) == sent
        data.sock.close()
        assert ends(peer)


def test_the_last_words_of_a_peer_arrive_before_the_end(relay: TurnRelayServer) -> None:
    words = os.urandom(1 << 20)
    with listening() as (server, address):
        caller = Caller(relay)
        data = caller.connect(address)
        peer = server.accept()[0]
        peer.sendall(words)
        peer.close()
        assert data.take(len(words)) == words
        assert ends(data.sock)


@pytest.mark.parametrize("first", ["client", "peer"])
def test_the_end_of_one_direction_leaves_the_other_one_open(relay: TurnRelayServer, first: str) -> None:
    """As of a request that ends with a FIN, behind which the answer comes."""
    question, words = os.urandom(1 << 20), os.urandom(1 << 20)
    with listening() as (server, address):
        caller = Caller(relay)
        data = caller.connect(address)
        peer = server.accept()[0]
        peer.settimeout(TIMEOUT)
        here, there = (data.sock, peer) if first == "client" else (peer, data.sock)
        asking = threading.Thread(target=_ask, args=(here, question))
        asking.start()
        assert _all_of(there) == question
        asking.join(TIMEOUT)
        answering = threading.Thread(target=_ask, args=(there, words))
        answering.start()
        assert _all_of(here) == words
        answering.join(TIMEOUT)
        # The connection is over, so there is room for another one with that peer.
        deadline = time.monotonic() + TIMEOUT
        while error_of(named := caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, address))) == 446:
            assert time.monotonic() < deadline, "the relay holds on to the connection"
            time.sleep(0.05)
        assert error_of(named) is None


def _ask(sock: socket.socket, words: bytes) -> None:
    sock.sendall(words)
    sock.shutdown(socket.SHUT_WR)


def _all_of(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    received = bytearray()
    while part := sock.recv(1 << 16):
        received += part
    return bytes(received)


def test_a_peer_that_ends_after_its_answer_ends_the_connection_of_a_tls_client(
    relay: TurnRelayServer,
) -> None:
    """TLS has no end of one direction alone: what the peer said arrives, then both are over."""
    words = os.urandom(1 << 20)
    with listening() as (server, address):
        caller = Caller(relay)
        data = caller.connect(address, secure=True)
        peer = server.accept()[0]
        peer.settimeout(TIMEOUT)
        _ask(peer, words)
        assert data.take(len(words)) == words
        assert ends(data.sock)
        assert ends(peer)


def test_a_permitted_peer_connects_and_what_it_said_early_is_kept(relay: TurnRelayServer) -> None:
    caller = Caller(relay)
    assert is_turned_away(caller.relayed), "there is no permission yet"
    caller.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, TransportAddress("127.0.0.1", 1)))
    with socket.create_connection(caller.relayed, TIMEOUT, ("127.0.0.1", 0)) as peer:
        peer.sendall(b"early")
        attempt = caller.read()
        assert attempt.method == Method.CONNECTION_ATTEMPT
        assert attempt.get(XOR_PEER_ADDRESS) == TransportAddress(*peer.getsockname())
        data = caller.bind(attempt)
        assert data.take(5) == b"early"
        data.sock.sendall(b"answer")
        peer.settimeout(TIMEOUT)
        assert peer.recv(6) == b"answer"


def test_refusals(relay: TurnRelayServer) -> None:
    caller = Caller(relay)
    with listening() as (_, address):
        data = caller.connect(address)
        assert error_of(caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, address))) == 446
        assert data.sock.fileno() >= 0
    assert error_of(caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, address._replace(port=1)))) == 447
    private = TransportAddress("10.0.0.1", 80)
    assert error_of(caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, private))) == 403
    own_port = TransportAddress(relay.site.address, relay.port)
    assert error_of(caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, own_port))) == 403


@pytest.mark.parametrize("how", ["deleted", "disconnected"])
def test_with_the_allocation_its_connections_end(relay: TurnRelayServer, how: str) -> None:
    caller = Caller(relay)
    with listening() as (server, address):
        data = caller.connect(address)
        peer = server.accept()[0]
        if how == "deleted":
            assert error_of(caller.ask(Method.REFRESH, (LIFETIME, 0))) is None
        else:
            caller.sock.close()
        assert ends(data.sock)
        assert ends(peer)


def test_data_before_the_answer_ends_the_connection_and_no_other(relay: TurnRelayServer) -> None:
    caller = Caller(relay)
    with listening() as (_, address):
        answer = caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, address))
        hasty = Stream(relay)
        assert error_of(hasty.ask(Method.CONNECTION_BIND)) == 400
        request = Message(MessageClass.REQUEST, Method.CONNECTION_BIND)
        connection_id = answer.get(CONNECTION_ID)
        assert connection_id is not None
        request.add(CONNECTION_ID, connection_id)
        hasty.sock.sendall(hasty._sealed(request) + b"\x00\x01")
        hasty.read()
        assert ends(hasty.sock)
        assert error_of(caller.ask(Method.REFRESH)) is None


def test_bandwidth_limits_hold_for_tcp_relays(tmp_path: Path) -> None:
    settings = tmp_path / "turnrelay.toml"
    settings.write_text(f"[limits]\nbandwidth_per_allocation = {LIMITED}\n")
    words = os.urandom(3 * LIMITED)
    with (
        loopback_address() as address,
        TurnRelayServer(
            Site.prepare(tmp_path / "relay", address),
            LOOPBACK_ACCESS,
            flags=["--tcp-relay", "on", "--config", str(settings)],
        ) as relay,
        listening() as (server, peer_address),
    ):
        caller = Caller(relay)
        data = caller.connect(peer_address)
        peer = server.accept()[0]
        started = time.monotonic()
        peer.sendall(words)
        peer.close()
        assert data.take(len(words)) == words
        # One second's worth may come at once.
        assert time.monotonic() - started > 1.8
