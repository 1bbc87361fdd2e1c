"""Trains: datagrams that are sent in one call (UDP_SEGMENT), and cross the loopback as one (UDP_GRO)."""

import socket
import struct

from stunwire import TransportAddress
from unit.relay.loopback import Peer

_UDP_SEGMENT, _UDP_GRO = 103, 104
MOST_BYTES = 12_000
"""In a train of a history: a socket's buffer holds several, each datagram by itself too."""


def send_train(end: Peer, datagrams: list[bytes], to: TransportAddress) -> None:
    """All of one size but for the last, which may be shorter."""
    size = len(datagrams[0])
    assert all(len(datagram) == size for datagram in datagrams[:-1])
    assert len(datagrams[-1]) <= size
    control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
    end.sock.sendmsg(datagrams, control, 0, tuple(to))


def take_trains(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)


def takes_trains(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_UDP, _UDP_GRO))


def receive_train(sock: socket.socket) -> list[bytes]:
    """What arrived as one, on a socket that takes trains. Raises BlockingIOError if nothing has."""
    data, control, _, _ = sock.recvmsg(65536, 64)
    sizes = [
        struct.unpack("=i", value)[0]
        for level, kind, value in control
        if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO)
    ]
    size = sizes[0] if sizes else max(len(data), 1)
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]
