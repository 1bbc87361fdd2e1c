"""The path goes silent and comes back, or is exchanged: traffic flows again at once."""

import pytest
from peerpath.quic import StreamData
from unit.sdk.quic.wire import DIALER, LISTENER, Wire, other

DELAY = 0.04
ROUND_TRIP = 2 * DELAY


def busy_wire() -> tuple[Wire, int]:
    """The dialer has more to send than the silence lets it."""
    wire = Wire(delay=DELAY).establish()
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, bytes(30_000), wire.now)
    wire.run(2)
    wire.dialer.send_stream(stream, bytes(200_000), wire.now)
    wire.run(DELAY)
    return wire, stream


def arrivals(wire, role, since):
    return [at for at, each in wire.heard[role] if isinstance(each, StreamData) and at > since]


@pytest.mark.parametrize("silence", [1.0, 5.0, 10.0, 30.0])
def test_after_a_silence_new_data_arrives_within_two_and_a_half_round_trips(silence):
    wire, _ = busy_wire()
    wire.passes = lambda role, data: False
    wire.run(silence)
    wire.passes = lambda role, data: True
    back = wire.now
    for role in (DIALER, LISTENER):
        wire.carry(role, wire.ends[role].path_changed(back))
    wire.run(10, until=lambda: arrivals(wire, LISTENER, back))
    # One at most goes to packets that had arrived before, whose acknowledgements are what got lost.
    assert arrivals(wire, LISTENER, back)[0] - back <= 2.5 * ROUND_TRIP
    # And it goes on at once: the rest is there after a few round trips of slow start.
    wire.run(5, until=lambda: wire.dialer.unacknowledged(0) == 0)
    assert wire.dialer.unacknowledged(0) == 0
    assert wire.now - back < 8 * ROUND_TRIP


def test_without_being_told_it_waits_for_the_doubled_timeout():
    """What `path_changed` is good for: the same silence, and nobody says that it is over."""
    wire, _ = busy_wire()
    wire.passes = lambda role, data: False
    wire.run(5.0)
    wire.passes = lambda role, data: True
    back = wire.now
    wire.run(60, until=lambda: arrivals(wire, LISTENER, back))
    assert arrivals(wire, LISTENER, back)[0] - back > 5 * ROUND_TRIP


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_one_side_that_knows_is_enough(role):
    wire, _ = busy_wire()
    wire.passes = lambda role, data: False
    wire.run(5.0)
    wire.passes = lambda role, data: True
    back = wire.now
    wire.carry(role, wire.ends[role].path_changed(back))
    wire.run(10, until=lambda: wire.dialer.unacknowledged(0) == 0)
    # The listener has nothing under way, so all it can do is to be heard.
    assert wire.now - back < (8 * ROUND_TRIP if role is DIALER else 10)


def test_a_probe_that_is_lost_too_is_soon_repeated():
    wire, _ = busy_wire()
    wire.passes = lambda role, data: False
    wire.run(20.0)
    wire.carry(DIALER, wire.dialer.path_changed(wire.now))
    wire.run(0.05)  # the new path was not quite there yet
    wire.passes = lambda role, data: True
    back = wire.now
    wire.run(10, until=lambda: arrivals(wire, LISTENER, back))
    assert arrivals(wire, LISTENER, back)[0] - back < 1.0


def test_a_change_in_mid_traffic_neither_loses_nor_doubles_a_byte():
    wire, stream = busy_wire()
    for n in range(20):
        wire.delay = (0.01, 0.15)[n % 2]
        for role in (DIALER, LISTENER):
            wire.carry(role, wire.ends[role].path_changed(wire.now))
        wire.run(0.03)
    wire.run(10)
    assert sum(len(each.data) for each in wire.all(LISTENER, StreamData)) == 230_000
    assert wire.dialer.unacknowledged(stream) == 0


def test_a_change_while_packets_still_arrive_does_not_send_them_again():
    wire, stream = busy_wire()
    wire.sent.clear()
    for role in (DIALER, LISTENER):
        wire.carry(role, wire.ends[role].path_changed(wire.now))
    wire.run(10)
    assert wire.dialer.unacknowledged(stream) == 0
    assert sum(len(data) for role, data in wire.sent if role is DIALER) < 220_000


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_a_change_of_an_idle_link_sends_one_probe(role):
    wire = Wire(delay=DELAY).establish()
    wire.run(2)
    wire.sent.clear()
    wire.carry(role, wire.ends[role].path_changed(wire.now))
    wire.run(2)
    assert [sender for sender, _ in wire.sent] == [role, other(role)]


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_a_change_before_the_handshake_is_harmless(role):
    wire = Wire()
    wire.carry(role, wire.ends[role].path_changed(0.0))
    wire.run(0.03)
    wire.carry(role, wire.ends[role].path_changed(wire.now))
    wire.establish()


def test_an_outage_of_fifty_seconds_does_not_end_the_link():
    wire, _ = busy_wire()
    wire.passes = lambda role, data: False
    wire.run(50)
    wire.passes = lambda role, data: True
    for role in (DIALER, LISTENER):
        wire.carry(role, wire.ends[role].path_changed(wire.now))
    wire.run(5)
    assert wire.dialer.is_established
    assert wire.dialer.unacknowledged(0) == 0
