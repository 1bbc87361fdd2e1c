"""Who gets in and who does not: each refusal on both sides, with its reason, and nothing established."""

from datetime import timedelta
from random import Random

import pytest
from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, encode_quic_retry
from aioquic.quic.packet_builder import QuicPacketBuilder
from peerpath.quic import (
    Established,
    LinkClosed,
    StreamData,
    Transmit,
    certificate,
)
from unit.sdk.quic.wire import ALICE, BOB, DIALER, LISTENER, MALLORY, TODAY, Wire, link, other

LONG_AGO = TODAY - certificate.VALID_AFTER - timedelta(hours=1)
TOO_SOON = TODAY + certificate.VALID_BEFORE + timedelta(hours=1)


def test_both_sides_are_established_once_and_the_listener_half_a_round_trip_earlier():
    wire = Wire(delay=0.05).establish()
    [(dialer_at, _)] = wire.heard[DIALER]
    [(listener_at, _)] = wire.heard[LISTENER]
    assert wire.all(DIALER, Established) == wire.all(LISTENER, Established) == [Established()]
    assert listener_at == pytest.approx(0.15, abs=0.01)
    assert dialer_at == pytest.approx(0.20, abs=0.01)


def test_both_sides_are_established_at_thirty_percent_loss():
    for seed in range(10):
        wire = Wire(loss=0.3, duplicates=0.1, jitter=0.05, seed=seed)
        wire.run(60, until=lambda wire=wire: wire.dialer.is_established and wire.listener.is_established)
        assert wire.dialer.is_established, seed
        assert wire.listener.is_established, seed


def test_a_listener_with_another_key_is_refused_by_the_dialer():
    wire = Wire(listener=link(LISTENER, identity=MALLORY))
    wire.run(5)
    ours, theirs = wire.closed(DIALER), wire.closed(LISTENER)
    assert not ours.by_peer
    assert str(MALLORY.public_key) in ours.reason
    assert str(BOB.public_key) in ours.reason
    assert theirs.by_peer
    assert theirs.reason.startswith("the peer refused this side: this side expects another key than yours")
    nothing_was_established(wire)


def test_a_dialer_with_another_key_is_refused_by_the_listener_and_never_believes_itself_connected():
    wire = Wire(dialer=link(DIALER, identity=MALLORY))
    wire.run(5)
    ours, theirs = wire.closed(LISTENER), wire.closed(DIALER)
    assert not ours.by_peer
    assert str(MALLORY.public_key) in ours.reason
    assert str(ALICE.public_key) in ours.reason
    assert theirs.by_peer
    assert theirs.reason.startswith("the peer refused this side: this side expects another key than yours")
    nothing_was_established(wire)


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_whom_this_side_expected_is_not_told_to_a_stranger(role):
    wire = Wire(**{other(role).value: link(other(role), identity=MALLORY)})
    wire.run(5)
    assert "pp" not in wire.closed(other(role)).reason.replace("expects", "")


@pytest.mark.parametrize("role", [DIALER, LISTENER])
@pytest.mark.parametrize(("at", "words"), [(LONG_AGO, "valid until"), (TOO_SOON, "not valid before")])
def test_a_certificate_of_another_time_is_refused(role, at, words):
    wire = Wire(**{other(role).value: link(other(role), at=at)})
    # The side with the wrong clock must not be the one that refuses: it judges by the right one.
    wire.ends[other(role)]._judge = lambda certificate: None
    connection = wire.ends[other(role)]._connection
    if connection is not None:
        connection._judge = lambda certificate: None
    wire.run(5)
    ours, theirs = wire.closed(role), wire.closed(other(role))
    assert f"the peer's certificate is {words} " in ours.reason
    assert "set both right" in ours.reason
    assert theirs.by_peer
    assert f"your certificate is {words} " in theirs.reason
    nothing_was_established(wire)


@pytest.mark.parametrize("role", [DIALER, LISTENER])
@pytest.mark.parametrize("off", [timedelta(hours=-23), timedelta(hours=23)])
def test_the_clocks_of_both_sides_may_differ_by_almost_a_day(role, off):
    Wire(**{role.value: link(role, at=TODAY + off)}).establish()


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_the_right_certificate_without_its_private_key_is_refused(role):
    # Mallory shows Alice's (or Bob's) certificate, which is no secret, and signs with a key of their own.
    impostor = link(other(role))
    (
        impostor._settings if impostor._connection is None else impostor._connection._configuration
    ).private_key = MALLORY.private_key
    if impostor._connection is not None:
        impostor._connection.tls.certificate_private_key = MALLORY.private_key
    wire = Wire(**{other(role).value: impostor})
    wire.run(5)
    assert wire.closed(role).reason == "the peer does not hold the private key of the certificate it showed"
    assert "you do not hold the private key" in wire.closed(other(role)).reason
    nothing_was_established(wire)


def test_a_dialer_without_a_certificate_is_refused():
    dialer = link(DIALER)
    dialer._connection.tls.certificate = None
    wire = Wire(dialer=dialer)
    wire.run(5)
    assert wire.closed(LISTENER).reason == "the peer showed no certificate, so it is no peerpath"
    assert wire.closed(DIALER).reason == "the peer refused this side: you showed no certificate"
    nothing_was_established(wire)


def test_a_listener_that_asks_for_no_certificate_is_not_believed():
    listener = link(LISTENER)
    make = listener._make_connection

    def careless(destination):
        connection = make(destination)
        initialize = connection._initialize

        def without_request(peer_cid):
            initialize(peer_cid)
            connection.tls._request_client_certificate = False
            connection._proven = True

        connection._initialize = without_request
        return connection

    listener._make_connection = careless
    wire = Wire(listener=listener)
    wire.run(5)
    assert wire.all(DIALER, Established) == []
    assert wire.all(DIALER, LinkClosed) != []


def test_there_are_no_session_tickets_and_no_early_data():
    wire = Wire().establish()
    wire.run(5)
    for each in (wire.dialer, wire.listener):
        context = each._connection.tls
        assert context._new_session_ticket is None
        assert context.new_session_ticket_cb is None
        assert context.get_session_ticket_cb is None
        assert not context.session_resumed
        assert not context.early_data_accepted


class Plain:
    """A QuicConnection as aioquic makes it, at one end of the wire."""

    def __init__(self, settings: QuicConfiguration, destination: bytes | None = None) -> None:
        self.connection = QuicConnection(
            configuration=settings, original_destination_connection_id=destination
        )
        self.timer_at: float | None = None
        if settings.is_client:
            self.connection.connect(("peer", 0), 0.0)
            self.timer_at = 0.0
        self.events: list[object] = []

    def receive(self, data, now):
        self.connection.receive_datagram(data, ("peer", 0), now)
        return self._pump(now)

    def handle_timeout(self, now):
        self.connection.handle_timer(now)
        return self._pump(now)

    def next_deadline(self):
        return self.timer_at

    def _pump(self, now):
        while (event := self.connection.next_event()) is not None:
            self.events.append(event)
        sent = [Transmit(data) for data, _ in self.connection.datagrams_to_send(now)]
        self.timer_at = self.connection.get_timer()
        return sent


@pytest.mark.parametrize("alpn", ["peerpath/1", "h3"])
def test_a_plain_quic_client_gets_nothing(alpn):
    # It offers every algorithm, would take any certificate, and has none.
    settings = QuicConfiguration(alpn_protocols=[alpn], is_client=True, verify_mode=0)
    wire = Wire(dialer=Plain(settings))
    wire.run(5)
    assert wire.all(LISTENER, Established) == []
    assert not [event for event in wire.ends[DIALER].events if type(event).__name__ == "StreamDataReceived"]


@pytest.mark.parametrize("alpn", ["peerpath/1", "h3"])
def test_a_plain_quic_server_with_another_key_gets_nothing(alpn):
    settings = QuicConfiguration(alpn_protocols=[alpn], is_client=False)
    settings.certificate = certificate.make_certificate(MALLORY, TODAY)
    settings.private_key = MALLORY.private_key

    class Server:
        plain: Plain | None = None

        def receive(self, data, now):
            if self.plain is None:
                self.plain = Plain(settings, data[6 : 6 + data[5]])
            return self.plain.receive(data, now)

        def handle_timeout(self, now):
            return self.plain.handle_timeout(now)

        def next_deadline(self):
            return self.plain.next_deadline() if self.plain is not None else None

    wire = Wire(listener=Server())
    wire.run(5)
    assert wire.all(DIALER, Established) == []
    assert len(wire.all(DIALER, LinkClosed)) == 1


def test_a_recorded_flight_of_the_dialer_opens_nothing_at_a_new_listener():
    recorded = Wire().establish()
    recorded.dialer.send_stream(recorded.dialer.open_stream(), b"pay the bearer", recorded.now)
    recorded.run(1)
    replayed = link(LISTENER)
    for role, data in recorded.sent:
        if role is DIALER:
            outputs = [*replayed.receive(data, 1.0), *replayed.handle_timeout(1.0)]
            assert not [each for each in outputs if isinstance(each, Established | StreamData)]
    assert not replayed.is_established
    # It is as good as new for the real dialer, who does not know of the replay.
    Wire(listener=replayed).establish()


def test_a_recorded_flight_of_the_listener_opens_nothing_at_a_new_dialer():
    recorded = Wire().establish()
    recorded.run(1)
    replayed = link(DIALER)
    replayed.handle_timeout(0.0)
    for role, data in recorded.sent:
        if role is LISTENER:
            outputs = [*replayed.receive(data, 1.0), *replayed.handle_timeout(1.0)]
            assert not [each for each in outputs if isinstance(each, Established | StreamData)]
    assert not replayed.is_established
    assert replayed.closed is None


def test_forged_first_packets_do_not_keep_the_dialer_out():
    wire = Wire()
    for seed in range(20):
        forged = Wire(dialer=link(DIALER, identity=MALLORY))
        [first, *_] = forged.dialer.handle_timeout(0.0)
        if seed % 2:
            broken = bytearray(first.data)
            broken[Random(seed).randrange(60, 1200)] ^= 0xFF
            wire.carry(LISTENER, wire.listener.receive(bytes(broken), 0.0))
        wire.carry(LISTENER, wire.listener.receive(first.data, 0.0))
    assert len(list(wire.listener._connections())) <= 4
    wire.establish()


def test_a_close_in_a_forged_first_packet_does_not_keep_the_dialer_out():
    """Whoever has seen the dialer's first packet has its keys, but no listener's answer."""
    wire = Wire()
    wire.carry(DIALER, wire.dialer.handle_timeout(0.0))
    connection = wire.dialer._connection
    builder = QuicPacketBuilder(
        host_cid=connection.host_cid,
        peer_cid=connection._peer_cid.cid,
        version=1,
        is_client=True,
        max_datagram_size=1200,
        packet_number=7,
    )
    builder.start_packet(QuicPacketType.INITIAL, connection._cryptos[tls.Epoch.INITIAL])
    connection._write_connection_close_frame(
        builder=builder, epoch=tls.Epoch.INITIAL, error_code=1, frame_type=0, reason_phrase="forged"
    )
    [forged], _ = builder.flush()
    wire.run(0.03)
    wire.carry(LISTENER, wire.listener.receive(forged, wire.now))
    wire.establish()


def test_what_overtakes_the_word_of_the_listener_is_held_until_it_is_there():
    wire = Wire()
    wire.passes = lambda role, data: role is DIALER or not wire.listener.is_established
    wire.run(10, until=lambda: wire.listener.is_established)
    wire.run(0.01)
    wire.passes = lambda role, data: True
    stream = wire.listener.open_stream()
    wire.listener.send_stream(stream, b"overtakes", wire.now)
    wire.listener.send_datagram(b"lost", wire.now)
    wire.run(0.03)
    assert wire.heard[DIALER] == []
    wire.run(5)
    assert [output for _, output in wire.heard[DIALER]] == [
        Established(),
        StreamData(stream, b"overtakes", False),
    ]


def test_the_dialer_counts_as_connected_only_after_the_word_of_the_listener():
    wire = Wire()
    # From the moment that the listener would say that it is done, nothing of it arrives.
    wire.passes = lambda role, data: role is DIALER or not wire.listener.is_established
    wire.run(5)
    assert wire.listener.is_established
    assert wire.dialer._connection.tls.state is tls.State.CLIENT_POST_HANDSHAKE
    assert wire.all(DIALER, Established) == []
    wire.passes = lambda role, data: True
    wire.run(10)
    assert wire.all(DIALER, Established) == [Established()]


def test_retry_and_version_negotiation_are_ignored():
    wire = Wire()
    [first, *_] = wire.dialer.handle_timeout(0.0)
    source = first.data[15:23]
    negotiation = (
        b"\xc0\x00\x00\x00\x00" + bytes([8]) + source + bytes([8]) + first.data[6:14] + b"\x6b\x33\x43\xcf"
    )
    retry = encode_quic_retry(
        version=1,
        source_cid=b"12345678",
        destination_cid=source,
        original_destination_cid=first.data[6:14],
        retry_token=b"token",
    )
    for data in (negotiation, retry):
        assert wire.dialer.receive(data, 0.0) == []
    assert wire.dialer.closed is None
    assert wire.dialer._connection._retry_count == 0


def nothing_was_established(wire: Wire) -> None:
    for role in (DIALER, LISTENER):
        assert wire.all(role, Established) == []
        assert wire.all(role, StreamData) == []
        assert not wire.ends[role].is_established
        assert wire.ends[role].next_deadline() is None
