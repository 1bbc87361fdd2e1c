"""TURN over TCP and TLS: a few clients with a connection each, which this process itself sends on."""

import socket
import ssl
import struct
import time
from dataclasses import dataclass

from stunwire import Message, Method
from support.netns import inside

from bench.clients import CHANNEL, Client, must_succeed, take_nonce, take_relay
from bench.network import SERVER, Bench
from bench.relays import PORT, TLS_PORT, Relay

_MAGIC = 0x54524200
_TICK = 0.0005
_HEADER = 20


@dataclass(frozen=True)
class StreamLoad:
    offered: int
    seconds: float
    generator_cpu: float


class StreamFleet:
    """Clients of one relay, over TCP or TLS."""

    def __init__(self, bench: Bench, relay: Relay, count: int, *, tls: bool) -> None:
        self.relay = relay
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
        sent, count, cpu, start = 0, len(frames), time.process_time(), time.perf_counter()
        end = start + seconds
        while (now := time.perf_counter()) < end:
            due = min(int((now - start) * rate) - sent, 64) if rate else 64
            if due <= 0:
                time.sleep(_TICK)
            for number in range(sent, sent + due):
                send, frame = frames[number % count]
                send(frame)
            sent += max(due, 0)
        return StreamLoad(sent, time.perf_counter() - start, time.process_time() - cpu)


def _open(tls: bool) -> Client:
    sock = socket.create_connection((SERVER, TLS_PORT if tls else PORT), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
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
