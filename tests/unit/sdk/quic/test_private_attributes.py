"""What peerpath.quic.handshake uses of aioquic without its promise: another aioquic fails here first."""

import inspect

import pytest
from aioquic import tls
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.connection import QuicConnection
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from unit.sdk.quic.wire import DIALER, LISTENER, Wire

CONNECTION = """_close_event _configuration _cryptos _datagrams_pending _events _handshake_confirmed
    _is_client _local_max_streams_bidi _local_max_streams_uni _loss _max_datagram_size
    _network_paths _packet_number _peer_cid _remote_max_datagram_frame_size
    _remote_preferred_address _spaces _spin_bit _state _streams _version"""
CONTEXT = """_certificate_request _peer_certificate _request_client_certificate _signature_algorithms
    _supported_groups session_resumed"""
RECOVERY = "_cc _pacer _pto_count _rtt_initialized _rtt_min _rtt_smoothed bytes_in_flight spaces"
SPACE = "ack_eliciting_in_flight largest_received_time loss_time sent_packets"
STREAM = "is_blocked max_stream_data_local max_stream_data_local_sent receiver sender stream_id"


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_every_attribute_exists(role):
    wire = Wire().establish()
    wire.ends[role].send_stream(1, b"x", wire.now)
    connection = wire.ends[role]._connection
    space = connection._spaces[tls.Epoch.ONE_RTT]
    stream = connection._streams[1]
    for owner, names in (
        (connection, CONNECTION),
        (connection.tls, CONTEXT),
        (connection._loss, RECOVERY),
        (space, SPACE),
        (stream, STREAM),
    ):
        for name in names.split():
            assert hasattr(owner, name), f"{type(owner).__name__}.{name}"
    assert isinstance(connection._loss, QuicPacketRecovery)
    assert isinstance(space, QuicPacketSpace)
    assert isinstance(stream, QuicStream)
    assert hasattr(stream.sender, "_buffer")
    assert hasattr(stream.receiver, "is_finished")
    for each in (connection._loss._pacer, connection._loss._cc):
        assert hasattr(each, "_max_datagram_size")
    assert hasattr(connection._loss._pacer, "packet_time")
    assert hasattr(connection._loss._cc, "bytes_in_flight")


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (QuicConnection, "_initialize", ["peer_cid"]),
        (QuicConnection, "_receive_retry_packet", ["header", "packet_without_tag", "now"]),
        (QuicConnection, "_receive_version_negotiation_packet", ["header", "now"]),
        (QuicConnection, "_probe_preferred_address", []),
        (QuicConnection, "_handle_connection_close_frame", ["context", "frame_type", "buf"]),
        (QuicConnection, "_handle_stop_sending_frame", ["context", "frame_type", "buf"]),
        (QuicConnection, "_assert_stream_can_send", ["frame_type", "stream_id"]),
        (QuicConnection, "_get_or_create_stream", ["frame_type", "stream_id"]),
        (QuicConnection, "_write_stream_limits", ["builder", "space", "stream"]),
        (QuicConnection, "_write_stop_sending_frame", ["builder", "stream"]),
        (QuicConnection, "_write_reset_stream_frame", ["builder", "stream"]),
        (QuicConnection, "_on_max_stream_data_delivery", ["delivery", "stream"]),
        (QuicConnection, "_send_probe", []),
        (QuicConnection, "_flush_builder", ["builder", "network_path", "peer_cid", "now"]),
        (QuicConnection, "datagrams_to_send", ["now"]),
        (RenoCongestionControl, "on_packet_acked", ["now", "packet"]),
        (RenoCongestionControl, "on_packets_expired", ["packets"]),
        (RenoCongestionControl, "on_packets_lost", ["now", "packets"]),
        (tls.Context, "_check_certificate_verify_signature", ["verify"]),
        (tls.Context, "_server_expect_finished", []),
        (
            QuicPacketRecovery,
            "_on_packets_lost",
            ["congestion_event", "now", "packets", "persistent_congestion", "space"],
        ),
    ],
)
def test_every_method_takes_what_it_took(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters) == ["self", *parameters]


@pytest.mark.parametrize(
    ("owner", "name", "caller"),
    [
        (QuicConnection, "_write_stream_limits", "_write_application"),
        (QuicConnection, "_write_stop_sending_frame", "_write_application"),
        (QuicConnection, "_write_reset_stream_frame", "_write_application"),
        (QuicConnection, "_initialize", "receive_datagram"),
        (QuicConnection, "_receive_retry_packet", "receive_datagram"),
        (QuicConnection, "_receive_version_negotiation_packet", "receive_datagram"),
        (QuicConnection, "_probe_preferred_address", "datagrams_to_send"),
        (tls.Context, "_check_certificate_verify_signature", "_client_handle_certificate_verify"),
        (tls.Context, "_check_certificate_verify_signature", "_server_handle_certificate_verify"),
        (tls.Context, "_server_expect_finished", "_server_handle_certificate"),
        (tls.Context, "_server_expect_finished", "_server_handle_certificate_verify"),
    ],
)
def test_what_is_overridden_is_still_called(owner, name, caller):
    assert f"self.{name}(" in inspect.getsource(getattr(owner, caller))
