"""Packets that the kernel drops are counted, those of closed relayed addresses too."""

import asyncio
import socket
import time

from stunwire import AddressFamily
from turnrelay.relay.receive_drops import receive_drops
from turnrelay.transports.driver import Driver
from turnrelay.transports.udp import UdpListener
from unit.core.conftest import World


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


async def test_what_was_dropped_before_an_address_changed_hands_is_counted_by_its_giver_alone(new_relays):
    giver, taker = new_relays(), new_relays()
    address = giver.plane.open("alice", AddressFamily.IPV4, even_port=False, reserve_next=False).relay
    sock = giver.plane.relays[address].sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    flood(sock.getsockname())
    lost = giver.plane.receive_drops()
    assert lost > 0
    taker.plane.adopt(giver.plane.give_away(address), address, "alice")
    assert (giver.plane.receive_drops(), taker.plane.receive_drops()) == (lost, 0)
    flood(address)
    assert giver.plane.receive_drops() == lost
    assert taker.plane.receive_drops() > 0


async def test_a_listener_counts_what_is_dropped_from_its_beginning_on():
    receiver, _ = overflowing()
    loop, nobody = asyncio.get_running_loop(), None
    driver = Driver(World().server, nobody, loop, time.monotonic, time.time)
    listener = UdpListener(loop, driver, "", 0, receiver)
    assert listener.receive_drops() == 0
    flood(receiver.getsockname())
    assert listener.receive_drops() > 0
    listener.close()
