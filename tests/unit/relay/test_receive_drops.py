"""Packets that the kernel drops are counted, those of closed relayed addresses too."""

import socket

from stunwire import AddressFamily
from turnrelay.relay.receive_drops import receive_drops


def overflowing() -> tuple[socket.socket, int]:
    """A socket with a full buffer, and how many packets were lost."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    receiver.setblocking(False)
    receiver.bind(("127.0.0.1", 0))
    flood(receiver.getsockname())
    received = 0
    try:
        while receiver.recv(2000):
            received += 1
    except BlockingIOError:
        return receiver, 100 - received


def flood(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(bytes(1000), address)


def test_what_did_not_fit_the_buffer_is_counted():
    receiver, lost = overflowing()
    with receiver:
        assert 0 < lost < 100
        assert receive_drops(receiver) == lost


def test_a_new_socket_has_lost_nothing():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
        assert receive_drops(fresh) == 0


async def test_the_plane_counts_closed_relayed_addresses_on(relays):
    address = relays.plane.open("alice", AddressFamily.IPV4, even_port=False, reserve_next=False).relay
    relay = relays.plane.relays[address]
    relay.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    flood(relay.sock.getsockname())
    lost = relays.plane.receive_drops()
    assert lost > 0
    relays.plane.close(address)
    assert relays.plane.receive_drops() == lost
