"""An established link: streams, windows, datagrams, silence and the end."""

import pytest
from peerpath.quic import (
    CONTROL_STREAM,
    CloseCode,
    DatagramReceived,
    LinkOptions,
    StreamData,
    StreamReset,
    StreamStopped,
)
from stunwire.demultiplexing import Protocol, classify, is_stun
from unit.sdk.quic.wire import DIALER, LISTENER, TODAY, Wire, other


def options(**changes):
    return LinkOptions(wall_clock=lambda: TODAY, **changes)


def received(wire, role, stream):
    return b"".join(each.data for each in wire.all(role, StreamData) if each.stream == stream)


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_a_stream_carries_bytes_both_ways_through_loss_duplication_and_reordering(role):
    wire = Wire(loss=0.1, duplicates=0.1, jitter=0.03).establish()
    stream = wire.ends[role].open_stream()
    there, back = bytes(range(256)) * 200, bytes(range(255, -1, -1)) * 200
    wire.ends[role].send_stream(stream, there, wire.now, end=True)
    wire.run(10, until=lambda: received(wire, other(role), stream) == there)
    wire.ends[other(role)].send_stream(stream, back, wire.now, end=True)
    wire.run(10, until=lambda: received(wire, role, stream) == back)
    assert received(wire, other(role), stream) == there
    assert received(wire, role, stream) == back
    assert wire.all(role, StreamData)[-1].end


def test_the_control_stream_is_the_listeners_first_and_has_no_trace_of_the_handshake():
    wire = Wire().establish()
    wire.listener.send_stream(CONTROL_STREAM, b"from the listener", wire.now)
    wire.dialer.send_stream(CONTROL_STREAM, b"from the dialer", wire.now)
    wire.run(1)
    assert received(wire, DIALER, CONTROL_STREAM) == b"from the listener"
    assert received(wire, LISTENER, CONTROL_STREAM) == b"from the dialer"


def test_who_does_not_read_stops_the_writer_and_reading_lets_it_go_on():
    wire = Wire(options=options(stream_window=10_000)).establish()
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, bytes(50_000), wire.now)
    wire.run(10)
    assert len(received(wire, LISTENER, stream)) == 10_000
    assert wire.dialer.unacknowledged(stream) == 40_000
    wire.listener.consumed(stream, 10_000, wire.now)
    wire.run(10)
    assert len(received(wire, LISTENER, stream)) == 20_000
    for _ in range(4):
        wire.listener.consumed(stream, 10_000, wire.now)
        wire.run(10)
    assert len(received(wire, LISTENER, stream)) == 50_000
    assert wire.dialer.unacknowledged(stream) == 0


def test_a_window_that_was_lost_on_the_way_is_told_again():
    wire = Wire(options=options(stream_window=10_000)).establish()
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, bytes(20_000), wire.now)
    wire.run(10)
    wire.listener.consumed(stream, 10_000, wire.now)
    wire.passes = lambda role, data: role is DIALER
    wire.run(3)
    wire.passes = lambda role, data: True
    wire.run(10)
    assert len(received(wire, LISTENER, stream)) == 20_000


def test_resetting_and_stopping_a_stream_reach_the_other_side():
    wire = Wire().establish()
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, b"x", wire.now)
    wire.run(1)
    wire.dialer.reset_stream(stream, CloseCode.ABANDONED, wire.now)
    wire.dialer.stop_stream(stream, CloseCode.NOT_READ, wire.now)
    wire.run(1)
    assert wire.all(LISTENER, StreamReset) == [StreamReset(stream, CloseCode.ABANDONED)]
    assert wire.all(LISTENER, StreamStopped) == [StreamStopped(stream, CloseCode.NOT_READ)]


def test_the_largest_datagram_arrives_and_one_byte_more_is_an_error_that_says_so():
    wire = Wire().establish()
    limit = wire.dialer.datagram_limit
    wire.dialer.send_datagram(bytes(limit), wire.now)
    wire.run(1)
    assert wire.all(LISTENER, DatagramReceived) == [DatagramReceived(bytes(limit))]
    with pytest.raises(ValueError, match=f"at most {limit} bytes here, this one {limit + 1}"):
        wire.dialer.send_datagram(bytes(limit + 1), wire.now)
    assert limit == 1170


def test_datagrams_that_wait_too_long_make_room_for_newer_ones():
    wire = Wire(options=options(datagrams_waiting=20)).establish()
    dropped = [wire.dialer.send_datagram(bytes([n]) * 1000, wire.now) for n in range(30)]
    assert dropped == [0] * 20 + [1] * 10
    wire.run(5)
    assert [each.data[0] for each in wire.all(LISTENER, DatagramReceived)] == list(range(10, 30))


@pytest.mark.parametrize("payload", [1200, 1350])
def test_no_packet_is_larger_than_was_set(payload):
    wire = Wire(options=options(max_payload=payload)).establish()
    stream = wire.dialer.open_stream()
    wire.dialer.send_stream(stream, bytes(100_000), wire.now)
    wire.run(5)
    assert max(len(data) for _, data in wire.sent) == payload


def test_a_payload_below_what_quic_needs_is_refused():
    with pytest.raises(ValueError, match="max_payload: QUIC needs at least 1200 bytes, not 1199"):
        options(max_payload=1199)


def test_thousands_of_packets_are_never_taken_for_stun_or_for_what_a_relay_sends():
    kinds = set()
    count = 0
    for seed in range(3):
        wire = Wire(loss=0.02, jitter=0.02, seed=seed).establish()
        for stream in (wire.dialer.open_stream(), wire.listener.open_stream()):
            end = wire.dialer if stream % 4 == 0 else wire.listener
            end.send_stream(stream, bytes(200_000), wire.now)
        for _ in range(400):
            wire.dialer.send_datagram(b"d", wire.now)
            wire.listener.send_datagram(b"l", wire.now)
            wire.run(0.01)
        wire.run(20)
        for _, data in wire.sent:
            assert not is_stun(data)
            # RFC 9443 section 2: 64 to 79 are channels where a relay sends them, and QUIC where a peer does.
            # The fixed bit is set in every packet, so nothing below 64 or from 128 to 191 ever occurs.
            assert data[0] & 0x40
            kinds.add(classify(data[0]))
            count += 1
    assert count > 3000
    assert kinds == {Protocol.QUIC, Protocol.TURN_CHANNEL}


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_closing_tells_the_peer_the_reason(role):
    wire = Wire().establish()
    wire.carry(role, wire.ends[role].close(7, "gone fishing", wire.now))
    wire.run(1)
    ours, theirs = wire.closed(role), wire.closed(other(role))
    assert (ours.reason, ours.by_peer, ours.code) == ("gone fishing", False, 7)
    assert (theirs.reason, theirs.by_peer, theirs.code) == ("gone fishing", True, 7)
    assert theirs.application
    assert wire.ends[role].receive(b"x", wire.now) == []
    assert wire.ends[role].close(1, "again", wire.now) == []


def test_a_long_reason_is_cut_and_does_not_break_the_packet():
    wire = Wire().establish()
    wire.carry(DIALER, wire.dialer.close(1, "ä" * 5000, wire.now))
    wire.run(1)
    assert wire.closed(LISTENER).reason == "ä" * 100


def test_a_silent_link_lives_and_needs_one_small_exchange_in_24_seconds():
    wire = Wire().establish()
    wire.run(2)
    wire.sent.clear()
    wire.run(600)
    assert wire.dialer.is_established
    assert wire.listener.is_established
    assert 48 <= len(wire.sent) <= 52  # 25 PINGs and their acknowledgements
    assert max(len(data) for _, data in wire.sent) < 50


def test_a_dead_path_ends_the_link_after_the_idle_timeout_and_says_so():
    wire = Wire().establish()
    wire.run(2)
    wire.passes = lambda role, data: False
    wire.run(59)
    assert wire.dialer.is_established
    wire.run(40)
    for role in (DIALER, LISTENER):
        assert wire.closed(role).reason == "nothing was heard from the peer for 60 s"
        assert not wire.closed(role).by_peer


def test_without_keepalives_a_silent_link_ends():
    wire = Wire(options=options(keepalive=False)).establish()
    wire.run(59)
    assert wire.dialer.is_established
    wire.run(5)
    assert wire.closed(DIALER).reason == "nothing was heard from the peer for 60 s"


def test_nothing_can_be_sent_before_the_link_is_established():
    wire = Wire()
    assert wire.dialer.datagram_limit == 0
    with pytest.raises(RuntimeError, match="not established"):
        wire.dialer.send_stream(0, b"early", 0.0)
