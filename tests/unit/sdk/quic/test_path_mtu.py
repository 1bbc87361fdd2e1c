"""Packets grow to what the path carries, and never beyond what it was said to be good for."""

import pytest
from peerpath.quic import LARGEST_PAYLOAD, SMALLEST_PAYLOAD, DatagramReceived, StreamData
from peerpath.quic.path_mtu import PathMtu
from unit.sdk.quic.wire import DIALER, LISTENER, Wire

BULK = 40_000


def wire_of(carries: int, largest: int | None = LARGEST_PAYLOAD) -> Wire:
    """Loses what is larger than it carries; both sides were told that up to `largest` may be tried."""
    wire = Wire(delay=0.02).establish()
    wire.passes = lambda role, data: len(data) <= carries
    for role, end in wire.ends.items():
        wire.carry(role, end.path_changed(wire.now, largest=largest))
    wire.run(1)
    wire.sent.clear()
    return wire


def arrived(wire: Wire, stream: int) -> int:
    return sum(len(each.data) for each in wire.all(LISTENER, StreamData) if each.stream == stream)


def send(wire: Wire, size: int = BULK) -> None:
    """All of it arrives."""
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, bytes(size), wire.now)
    wire.run(60, until=lambda: arrived(wire, stream) == size)
    assert arrived(wire, stream) == size


def search(wire: Wire) -> int:
    """The size that was found, once there was enough to send for it."""
    for _ in range(20):
        send(wire)
    return wire.dialer.packet_size


def largest_sent(wire: Wire) -> int:
    return max(len(data) for role, data in wire.sent if role is DIALER)


@pytest.mark.parametrize(
    ("carries", "found"),
    [(1500, 1452), (1452, 1452), (1451, 1392), (1372, 1332), (1280, 1272), (1271, 1200), (1200, 1200)],
)
def test_packets_grow_to_the_size_that_the_path_carries(carries, found):
    wire = wire_of(carries)
    assert search(wire) == found
    wire.sent.clear()
    send(wire)
    assert largest_sent(wire) == found


def test_what_is_lost_in_the_search_slows_nothing_down():
    wire = wire_of(1200)
    assert search(wire) == 1200
    assert any(len(data) == LARGEST_PAYLOAD for _, data in wire.sent)
    assert wire.dialer._connection._loss._cc.ssthresh is None


@pytest.mark.parametrize("largest", [None, SMALLEST_PAYLOAD])
def test_nothing_larger_is_tried_on_a_path_that_is_not_said_to_be_good_for_it(largest):
    wire = wire_of(1500, largest)
    send(wire)
    assert largest_sent(wire) == SMALLEST_PAYLOAD


def test_who_says_little_asks_nothing():
    wire = wire_of(1500)
    for _ in range(20):
        send(wire, 300)
    assert largest_sent(wire) < SMALLEST_PAYLOAD


def test_another_path_is_found_out_anew():
    wire = wire_of(1452)
    send(wire)
    assert wire.dialer.packet_size == 1452
    wire.passes = lambda role, data: len(data) <= 1300
    wire.carry(DIALER, wire.dialer.path_changed(wire.now))
    assert wire.dialer.packet_size == SMALLEST_PAYLOAD
    assert search(wire) == 1272


def test_a_relayed_path_after_a_direct_one_gets_small_packets_at_once():
    wire = wire_of(1452)
    send(wire)
    wire.sent.clear()
    wire.carry(DIALER, wire.dialer.path_changed(wire.now, largest=SMALLEST_PAYLOAD))
    send(wire)
    assert largest_sent(wire) == SMALLEST_PAYLOAD


@pytest.mark.parametrize("with_small_ones", [False, True])
def test_a_path_that_shrinks_unseen_gets_small_packets_again(with_small_ones):
    """Small packets that arrive keep the probe timeout from saying anything."""
    wire = wire_of(1452)
    send(wire)
    wire.passes = lambda role, data: len(data) <= 1300
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, bytes(BULK), wire.now)
    for _ in range(200):
        if with_small_ones:
            wire.dialer.send_datagram(b"a voice", wire.now)
        wire.run(0.05)
    assert wire.dialer.packet_size == SMALLEST_PAYLOAD
    assert arrived(wire, stream) == BULK
    assert len(wire.all(LISTENER, DatagramReceived)) > (100 if with_small_ones else -1)


def test_a_probe_of_the_old_path_says_nothing_of_the_new_one():
    mtu = PathMtu(1200)
    mtu.begin(1452)
    old = mtu.probe()
    mtu.begin(1452)
    new = mtu.probe()
    mtu.probed(*old, arrived=True)
    assert (mtu.size, mtu.wanted) == (1200, None)
    mtu.probed(*new, arrived=True)
    assert mtu.size == 1452


def test_losses_between_packets_that_arrive_are_those_of_any_path():
    mtu = PathMtu(1200)
    mtu.begin(1452)
    mtu.probed(*mtu.probe(), arrived=True)
    for _ in range(10):
        mtu.lost()
        mtu.lost()
        mtu.arrived()
    assert mtu.size == 1452
