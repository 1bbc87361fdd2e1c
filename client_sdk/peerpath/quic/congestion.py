"""CongestionControl: that of aioquic, which also tells whether large packets arrive."""

from __future__ import annotations

from collections.abc import Iterable

from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket

from peerpath.quic.path_mtu import PathMtu


class CongestionControl(RenoCongestionControl):
    """New Reno (RFC 9002 section 7) for one path."""

    def __init__(self, mtu: PathMtu) -> None:
        super().__init__(max_datagram_size=mtu.size)
        self._mtu = mtu

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        if packet.sent_bytes > self._mtu.base:
            self._mtu.arrived()
        super().on_packet_acked(now=now, packet=packet)

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        lost = tuple(packets)
        self._note_losses(lost)
        super().on_packets_lost(now=now, packets=lost)

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        """No word of them for a probe timeout."""
        expired = tuple(packets)
        self._note_losses(expired)
        super().on_packets_expired(packets=expired)

    def _note_losses(self, packets: tuple[QuicSentPacket, ...]) -> None:
        if any(packet.sent_bytes > self._mtu.base for packet in packets):
            self._mtu.lost()
