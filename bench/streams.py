"""TURN over TCP and TLS: a few clients with a connection each, which this process itself sends on."""

import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from stunwire import Message, Method
from support.netns import inside

from bench.clients import CHANNEL, Client, must_succeed, take_nonce, take_relay
from bench.network import PEER, PEER_PORT, SERVER, SERVER_AT_PEER, Bench
from bench.relays import PORT, TLS_PORT, Relay

_MAGIC = 0x54524200
_TICK = 0.0005
_HEADER = 20
_GRACE, _TIMEOUT = 0.1, 5.0


@dataclass(frozen=True)
class StreamLoad:
    offered: int
    seconds: float
    generator_cpu: float
    at_clients: int = 0
    """Frames that came to the clients."""


class StreamFleet:
    """Clients of one relay, over TCP or TLS."""

    def __init__(self, bench: Bench, relay: Relay, count: int, *, tls: bool) -> None:
        self.relay = relay
        self._bench = bench
        with inside(bench.client):
            self._clients = [_open(tls) for _ in range(count)]

    def close(self) -> None:
        for client in self._clients:
            client.sock.close()

    def allocate(self) -> None:
        for client in self._clients:
            for method, use in (
                (Method.ALLOCATE, take_nonce),
                (Method.ALLOCATE, take_relay),
                (Method.CHANNEL_BIND, must_succeed),
            ):
                client.sock.sendall(client.request(method))
                use(client, _read_message(client.sock))

    def run(self, payload: int, rate: float, seconds: float) -> StreamLoad:
        """One frame a write, each connection in turn; rate 0 is all that this process can."""
        frames = []
        for number, client in enumerate(self._clients):
            data = struct.pack("=II", _MAGIC, number).ljust(payload, b"\0")
            # Padded to four bytes on streams (RFC 8656 section 12.5).
            frame = struct.pack("!HH", CHANNEL, payload) + data + bytes(-payload % 4)
            frames.append((client.sock.sendall, frame))

        def send(number: int) -> None:
            write, frame = frames[number % len(frames)]
            write(frame)

        return _paced(send, lambda: 0, rate, seconds)

    def run_to_clients(self, payload: int, rate: float, seconds: float) -> StreamLoad:
        """The peer sends to each client's relayed address in turn."""
        data = bytes(payload)
        ports = [client.relay_port for client in self._clients]
        frame = 4 + payload + -payload % 4
        came = 0
        with inside(self._bench.peer), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((PEER, PEER_PORT))

            def send(number: int) -> None:
                peer.sendto(data, (SERVER_AT_PEER, ports[number % len(ports)]))

            def read() -> int:
                nonlocal came
                came += sum(_read_what_is_there(client.sock) for client in self._clients)
                return came // frame

            return _paced(send, read, rate, seconds)


def _paced(send: Callable[[int], None], read: Callable[[], int], rate: float, seconds: float) -> StreamLoad:
    """Calls `send` with consecutive numbers, and in between `read`, which says how much has come so far."""
    sent, cpu, start = 0, time.process_time(), time.perf_counter()
    end = start + seconds
    while (now := time.perf_counter()) < end:
        due = min(int((now - start) * rate) - sent, 64) if rate else 64
        if due <= 0:
            time.sleep(_TICK)
        for number in range(sent, sent + due):
            send(number)
        sent += max(due, 0)
        read()
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    time.sleep(_GRACE)
    return StreamLoad(sent, took, cpu, read())


def _read_what_is_there(sock: socket.socket) -> int:
    """How many bytes that was."""
    total = 0
    sock.setblocking(False)
    try:
        while data := sock.recv(1 << 16):
            total += len(data)
    except (BlockingIOError, ssl.SSLWantReadError):
        pass
    finally:
        sock.settimeout(_TIMEOUT)
    return total


def _open(tls: bool) -> Client:
    sock = socket.create_connection((SERVER, TLS_PORT if tls else PORT), timeout=_TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # The newest that all of them speak: coturn 4.6.1 knows no other.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        sock = context.wrap_socket(sock)
    return Client(sock, sock.getsockname()[1])


def _read_message(sock: socket.socket) -> Message:
    header = _read(sock, _HEADER)
    return Message.decode(header + _read(sock, int.from_bytes(header[2:4], "big")))


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("the relay closed the connection")
        data += more
    return data
