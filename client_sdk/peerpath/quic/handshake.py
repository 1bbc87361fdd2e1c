"""aioquic made to demand a pinned key of both sides. The one file that touches what is private in aioquic.

tests/unit/sdk/quic/test_handshake.py asserts that each of these attributes is there, so that another version
of aioquic fails loudly and not by accepting anybody.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakSet

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.events import StopSendingReceived
from aioquic.quic.packet import QuicFrameType, QuicHeader, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography import x509

from peerpath.identity import Identity
from peerpath.quic.certificate import CertificateRefused
from peerpath.quic.congestion import CongestionControl
from peerpath.quic.options import ALPN, LinkOptions, LinkRole
from peerpath.quic.path_mtu import PathMtu

PATH = ("peer", 0)
"""The only address that aioquic sees: which path carries the packets is no business of QUIC's here."""
_CID_BYTES = 8
_UNLIMITED = 1 << 60
_BUSY = 4
"""Packets in flight from which on larger ones are worth a probe."""

# What aioquic has to say is in the outputs; without a handler, Python would print it.
logging.getLogger("quic").addHandler(logging.NullHandler())

Judge = Callable[[x509.Certificate], None]
"""Raises CertificateRefused."""


class _CertificateRequired(tls.Alert):
    description = tls.AlertDescription.certificate_required


def configuration(
    role: LinkRole, identity: Identity, certificate: x509.Certificate, options: LinkOptions
) -> QuicConfiguration:
    """TLS 1.3, QUIC version 1, our ALPN, the identity's certificate; no tickets, tokens or CAs."""
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        certificate=certificate,
        cipher_suites=[
            tls.CipherSuite.AES_128_GCM_SHA256,
            tls.CipherSuite.CHACHA20_POLY1305_SHA256,
            tls.CipherSuite.AES_256_GCM_SHA384,
        ],
        connection_id_length=_CID_BYTES,
        idle_timeout=options.idle_timeout,
        is_client=role is LinkRole.DIALER,
        # What a stream may send is bounded per stream, and so is the number of streams.
        max_data=_UNLIMITED,
        max_datagram_frame_size=65536,
        max_datagram_size=options.max_payload,
        max_stream_data=options.stream_window,
        private_key=identity.private_key,
        supported_versions=[QuicProtocolVersion.VERSION_1],
        # aioquic's own check is for names and CAs; ours pins the key, on both sides.
        verify_mode=ssl.CERT_NONE,
    )


class PinnedConnection(QuicConnection):
    """A QuicConnection that completes its handshake only with the peer that `judge` accepts.

    Windows follow what the application consumed, where aioquic's grow with what arrives. Retry, version
    negotiation and preferred addresses are ignored: the path is ICE's.
    """

    def __init__(
        self,
        settings: QuicConfiguration,
        judge: Judge,
        options: LinkOptions,
        destination: bytes | None = None,
    ) -> None:
        super().__init__(configuration=settings, original_destination_connection_id=destination)
        self.refusal: CertificateRefused | None = None
        self._judge = judge
        self._window = options.stream_window
        self._consumed: WeakKeyDictionary[QuicStream, int] = WeakKeyDictionary()
        self._stopped: WeakSet[QuicStream] = WeakSet()
        self._proven = False
        self.mtu = PathMtu(options.max_payload)
        self._control = self._loss._cc = CongestionControl(self.mtu)
        limit = self._local_max_streams_bidi
        limit.value = limit.sent = options.max_streams + 1
        limit = self._local_max_streams_uni
        limit.value = limit.sent = 0

    # -- who the peer is ------------------------------------------------------------------------------------

    @property
    def is_proven(self) -> bool:
        """Whether the peer has shown the right certificate, and proven to hold its key."""
        return self._proven and not self.tls.session_resumed

    @property
    def is_certain(self) -> bool:
        """Whether the peer asked for our certificate, which a dialer cannot take for granted."""
        return not self._is_client or self.tls._certificate_request is not None

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        context = self.tls
        context._request_client_certificate = not self._is_client
        context._signature_algorithms = [tls.SignatureAlgorithm.ED25519]
        context._supported_groups = [tls.Group.X25519]
        check_signature = context._check_certificate_verify_signature
        expect_finished = context._server_expect_finished

        def check_certificate_verify(verify: tls.CertificateVerify) -> None:
            try:
                check_signature(verify)
            except tls.AlertDecryptError:
                self._refuse(
                    CertificateRefused(
                        "the peer does not hold the private key of the certificate it showed",
                        "you do not hold the private key of the certificate you showed",
                    )
                )
            certificate = context._peer_certificate
            assert certificate is not None
            try:
                self._judge(certificate)
            except CertificateRefused as refusal:
                self._refuse(refusal)
            self._proven = True

        def server_expect_finished() -> None:
            # A client comes here without a certificate as well (RFC 8446 section 4.4.2.4).
            if not self._proven:
                self.refusal = CertificateRefused(
                    "the peer showed no certificate, so it is no peerpath", "you showed no certificate"
                )
                raise _CertificateRequired(self.refusal.told)
            expect_finished()

        context._check_certificate_verify_signature = check_certificate_verify  # type: ignore[method-assign]
        context._server_expect_finished = server_expect_finished  # type: ignore[method-assign]

    def _refuse(self, refusal: CertificateRefused) -> None:
        self.refusal = refusal
        if refusal.expired:
            raise tls.AlertCertificateExpired(refusal.told)
        raise tls.AlertBadCertificate(refusal.told)

    # -- what is ignored ------------------------------------------------------------------------------------

    def _receive_retry_packet(self, header: QuicHeader, packet_without_tag: bytes, now: float) -> None:
        return

    def _receive_version_negotiation_packet(self, header: QuicHeader, now: float) -> None:
        return

    def _probe_preferred_address(self) -> None:
        self._remote_preferred_address = None

    # -- the end --------------------------------------------------------------------------------------------

    def _handle_connection_close_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        if self._is_client or context.epoch is not tls.Epoch.INITIAL:
            super()._handle_connection_close_frame(context, frame_type, buf)
            return
        # Anybody can forge the first packet of a client, but not one that answers ours: a client that refuses
        # us says so in a HANDSHAKE packet as well.
        buf.pull_uint_var()
        if frame_type == QuicFrameType.TRANSPORT_CLOSE:
            buf.pull_uint_var()
        buf.pull_bytes(buf.pull_uint_var())

    @property
    def is_ending(self) -> bool:
        """Whether the connection was closed, by whomever; aioquic says so only after its closing period."""
        return self._close_event is not None

    @property
    def ended_by_peer(self) -> bool:
        return self._state is QuicConnectionState.DRAINING

    @property
    def ending(self) -> tuple[int, int | None, str]:
        """Error code, frame type (None for an application's close) and reason."""
        event = self._close_event
        assert event is not None
        return event.error_code, event.frame_type, event.reason_phrase

    # -- flow control by consumption (RFC 9000 section 4) -------------------------------------------------

    def consumed(self, stream_id: int, size: int) -> None:
        """The application has taken `size` bytes more of this stream."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._consumed[stream] = self._consumed.get(stream, 0) + size

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if stream.receiver.is_finished:
            return
        limit = self._consumed.get(stream, 0) + self._window
        if limit - stream.max_stream_data_local >= self._window // 2:
            stream.max_stream_data_local = limit
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            assert stream.stream_id is not None
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream.stream_id)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes of a stream that aioquic still holds, because the peer's QUIC has not acknowledged them."""
        stream = self._streams.get(stream_id)
        return len(stream.sender._buffer) if stream is not None else 0

    def is_over(self, stream_id: int) -> bool:
        """Whether nothing more can come of a stream: all was received, and acknowledged by the peer."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.is_finished

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        # aioquic resets the stream by itself, and once both directions are over the peer may open another,
        # whether or not anybody here has taken the first. Here its reader ends it (RFC 9000 section 3.5).
        number, code = buf.pull_uint_var(), buf.pull_uint_var()
        self._assert_stream_can_send(frame_type, number)
        stream = self._get_or_create_stream(frame_type, number)
        if stream not in self._stopped and not stream.sender.is_finished:
            self._stopped.add(stream)
            self._events.append(StopSendingReceived(error_code=code, stream_id=number))

    # aioquic holds back the data of a stream that the peer does not allow yet, but not its end, and the peer
    # would take that for a violation (section 4.6).

    def _write_stop_sending_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        if not stream.is_blocked:
            super()._write_stop_sending_frame(builder, stream)

    def _write_reset_stream_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        if not stream.is_blocked:
            super()._write_reset_stream_frame(builder, stream)

    def drop_datagrams(self, keep: int) -> int:
        """Forgets the oldest waiting datagrams past `keep`; how many those were."""
        dropped = max(0, len(self._datagrams_pending) - keep)
        for _ in range(dropped):
            self._datagrams_pending.popleft()
        return dropped

    @property
    def datagram_limit(self) -> int:
        """The size of the largest DATAGRAM frame that the peer takes (RFC 9221 section 3); 0 if none."""
        return self._remote_max_datagram_frame_size or 0

    # -- the path -------------------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether something is under way that the peer has to acknowledge."""
        return any(space.ack_eliciting_in_flight for space in self._loss.spaces)

    @property
    def rtt(self) -> float | None:
        """Smoothed round-trip time in seconds; None before the first sample."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def heard_at(self) -> float | None:
        """When the newest packet of the established connection arrived."""
        return self._spaces[tls.Epoch.ONE_RTT].largest_received_time if self._spaces else None

    def path_changed(self, now: float) -> None:
        """Another path, or the same after an outage: what was learned of the old one is forgotten.

        RFC 9000 section 9.4: congestion control and round-trip time begin anew. Where the probe timeout had
        begun to double, everything in flight counts as lost and is sent again at once; where it had not, a
        probe alone is sent, for the packets under way may still arrive.
        """
        if self._state is not QuicConnectionState.CONNECTED:
            return
        self._use_size()
        loss = self._loss
        if loss._pto_count:
            for space in loss.spaces:
                loss._on_packets_lost(
                    congestion_event=False,
                    now=now,
                    packets=tuple(space.sent_packets.values()),
                    space=space,
                )
                space.loss_time = None
        in_flight = loss.bytes_in_flight
        self._control = loss._cc = CongestionControl(self.mtu)
        loss._cc.bytes_in_flight = in_flight
        loss._pacer.packet_time = None
        loss._pto_count = 0
        loss._rtt_initialized = False
        loss._rtt_min = float("inf")
        self._send_probe()

    # -- the size of packets (RFC 9000 section 14.3) --------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, tuple[str, int]]]:
        self._use_size()
        datagrams = super().datagrams_to_send(now)
        if self._handshake_confirmed and self._state is QuicConnectionState.CONNECTED:
            is_busy = self._loss.bytes_in_flight >= _BUSY * self.mtu.base
            if is_busy and self.mtu.wanted is not None:
                datagrams += self._size_probe(self.mtu.wanted, now)
        return datagrams

    def _use_size(self) -> None:
        size = self.mtu.size
        if size != self._max_datagram_size:
            self._max_datagram_size = size
            self._loss._pacer._max_datagram_size = self._control._max_datagram_size = size

    def _size_probe(self, size: int, now: float) -> list[tuple[bytes, tuple[str, int]]]:
        """A PING, filled up. Beside the congestion window: that it is lost says nothing of congestion."""
        assert self._version is not None
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        buffer = builder.start_frame(
            QuicFrameType.PING, handler=self._on_size_probe_delivery, handler_args=self.mtu.probe()
        )
        buffer.push_bytes(bytes(builder.remaining_buffer_space))
        assert builder._packet is not None
        builder._packet.in_flight = False
        return self._flush_builder(
            builder=builder, network_path=self._network_paths[0], peer_cid=self._peer_cid.cid, now=now
        )

    def _on_size_probe_delivery(self, delivery: QuicDeliveryState, path: int, size: int) -> None:
        self.mtu.probed(path, size, delivery is QuicDeliveryState.ACKED)
