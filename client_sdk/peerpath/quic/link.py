"""SecureLink: one authenticated QUIC connection as values in, values out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from cryptography import x509

from peerpath.identity import Identity, PublicKey
from peerpath.quic.certificate import check_certificate, make_certificate
from peerpath.quic.closing import reason_of
from peerpath.quic.handshake import PATH, PinnedConnection, configuration
from peerpath.quic.options import ALPN, SMALLEST_PAYLOAD, LinkOptions, LinkRole
from peerpath.quic.outputs import (
    CloseCode,
    DatagramReceived,
    Established,
    LinkClosed,
    LinkOutput,
    StreamData,
    StreamReset,
    StreamStopped,
    Transmit,
)

CONTROL_STREAM = 1
"""The first stream that a listener opens. Its first byte tells the dialer that it was accepted."""
_ACCEPTED = b"\x01"
_HANDSHAKES = 4
"""Handshakes that a listener has under way: one who forges a first packet must not keep the peer out."""
_OVERHEAD = 11 + 16 + 3
"""Short header, authentication tag, and the head of a DATAGRAM frame."""
_CID_BYTES = 8
_GRANULARITY = 0.0002
"""Seconds that a link lets pass at least, if nothing arrives or is written."""


class SecureLink:
    """One QUIC connection to `peer`, and to nobody else.

    Whatever was done to it, `next_deadline` says when `handle_timeout` is due; where that is now, packets
    wait to be sent: they leave from `handle_timeout`, `path_changed` and `close` alone, so that datagrams
    that arrive together are answered together. Times are seconds of any monotonic clock.
    """

    def __init__(
        self,
        role: LinkRole,
        identity: Identity,
        peer: PublicKey,
        *,
        now: float,
        options: LinkOptions | None = None,
    ) -> None:
        self.role = role
        self.peer = peer
        self.options = options = options or LinkOptions()
        self.is_established = False
        self.closed: LinkClosed | None = None
        certificate = make_certificate(identity, options.wall_clock())
        self._settings = configuration(role, identity, certificate, options)
        self._connection: PinnedConnection | None = None
        self._handshakes: dict[bytes, PinnedConnection] = {}
        self._outputs: list[LinkOutput] = []
        self._held: list[LinkOutput] = []
        self._due: float | None = None
        self._handled_at = now
        self._pinged_at = now
        self._largest = options.max_payload
        self._streams = itertools.count(0 if role is LinkRole.DIALER else CONTROL_STREAM + 4, 4)
        if role is LinkRole.DIALER:
            self._connection = self._make_connection(None)
            self._connection.connect(PATH, now)
            self._due = now

    # -- in and out -----------------------------------------------------------------------------------------

    def receive(self, datagram: bytes, now: float) -> list[LinkOutput]:
        """One datagram of the path; whatever is no packet of this link changes nothing."""
        if self.closed is not None:
            return []
        connection = self._connection or self._handshake_of(datagram)
        if connection is None:
            return []
        connection.receive_datagram(datagram, PATH, now)
        self._due = now
        self._take_events(connection)
        if connection.is_ending and connection.ended_by_peer:
            self._ended(connection)
        return self._take_outputs()

    def handle_timeout(self, now: float) -> list[LinkOutput]:
        """Does what is due, and gives out every packet that may be sent."""
        if self.closed is not None:
            return []
        self._due = None
        self._handled_at = now
        for connection in list(self._connections()):
            timer = connection.get_timer()
            if timer is not None and now >= timer:
                connection.handle_timer(now)
            if connection is self._connection and self.is_established and now >= self._ping_at(connection):
                self._pinged_at = now
                connection.send_ping(0)
            self._take_events(connection)
            self._flush(connection, now)
        return self._take_outputs()

    def next_deadline(self) -> float | None:
        """When to call `handle_timeout`; None for a listener that waits, and after the end."""
        if self.closed is not None:
            return None
        if self._due is not None:
            return self._due
        deadlines = [timer for each in self._connections() if (timer := each.get_timer()) is not None]
        if self.is_established and self._connection is not None:
            deadlines.append(self._ping_at(self._connection))
        if not deadlines:
            return None
        # By its rounding, and where pacing holds back an acknowledgement, aioquic asks for the present again.
        return max(min(deadlines), self._handled_at + _GRANULARITY)

    def path_changed(self, now: float, *, largest: int | None = None) -> list[LinkOutput]:
        """The path was exchanged underneath, or came back: probes it at once, as a new connection would.

        `largest` is the UDP payload in bytes up to which larger packets may be tried, as before if None.
        """
        if largest is not None:
            self._largest = largest
        for connection in list(self._connections()):
            connection.mtu.begin(self._largest)
            connection.path_changed(now)
        return self.handle_timeout(now)

    def close(self, code: int, reason: str, now: float) -> list[LinkOutput]:
        """Ends the link and tells the peer, if it can be told; the last output is LinkClosed."""
        if self.closed is not None:
            return []
        for connection in list(self._connections()):
            connection.close(error_code=code, reason_phrase=_shortened(reason))
            self._transmit(connection, now)
        self._end(LinkClosed(reason, by_peer=False, code=code, application=True))
        return self._take_outputs()

    # -- streams and datagrams ------------------------------------------------------------------------------

    def open_stream(self) -> int:
        """The number of a new stream; the peer hears of it with the first bytes that are sent on it."""
        number = next(self._streams)
        # aioquic takes a number that was passed over for one whose stream is over.
        self._established().send_stream_data(number, b"")
        return number

    def send_stream(self, stream: int, data: bytes, now: float, *, end: bool = False) -> None:
        """Hands bytes to QUIC, which buffers without bound: mind `unacknowledged`."""
        self._established().send_stream_data(stream, data, end_stream=end)
        self._due = now

    def unacknowledged(self, stream: int) -> int:
        """Bytes handed over on this stream that the peer has not acknowledged."""
        return self._connection.unacknowledged(stream) if self._connection is not None else 0

    def is_over(self, stream: int) -> bool:
        """Whether both directions of this stream have ended, and the peer knows it of ours."""
        return self._connection is None or self._connection.is_over(stream)

    def consumed(self, stream: int, size: int, now: float) -> None:
        """The application took `size` bytes of the stream: the peer may send as many again."""
        self._established().consumed(stream, size)
        self._due = now

    def reset_stream(self, stream: int, code: int, now: float) -> None:
        """Gives up sending: what was not acknowledged is not sent again."""
        self._established().reset_stream(stream, code)
        self._due = now

    def stop_stream(self, stream: int, code: int, now: float) -> None:
        """Asks the peer to send no more on it."""
        self._established().stop_stream(stream, code)
        self._due = now

    @property
    def datagram_limit(self) -> int:
        """The largest datagram in bytes that `send_datagram` takes; 0 before the link is established."""
        if self._connection is None or not self.is_established:
            return 0
        return max(0, min(self.options.max_payload - _OVERHEAD, self._connection.datagram_limit - 3))

    def send_datagram(self, data: bytes, now: float) -> int:
        """Sends without a promise; how many older ones had to go for it. ValueError if it is too large."""
        if len(data) > self.datagram_limit:
            raise ValueError(f"a datagram has at most {self.datagram_limit} bytes here, this one {len(data)}")
        connection = self._established()
        connection.send_datagram_frame(data)
        self._due = now
        return connection.drop_datagrams(self.options.datagrams_waiting)

    @property
    def packet_size(self) -> int:
        """Bytes of UDP payload in the largest packets that are sent now."""
        return self._connection.mtu.size if self._connection is not None else self.options.max_payload

    @property
    def is_waiting(self) -> bool:
        """Whether the peer owes an acknowledgement: silence means something then."""
        return self._connection is not None and self._connection.is_waiting

    @property
    def rtt(self) -> float | None:
        """Smoothed round-trip time in seconds; None before the first sample on this path."""
        return self._connection.rtt if self._connection is not None else None

    # -- the handshake --------------------------------------------------------------------------------------

    def _make_connection(self, destination: bytes | None) -> PinnedConnection:
        connection = PinnedConnection(self._settings, self._judge, self.options, destination)
        connection.mtu.begin(self._largest)
        return connection

    def _judge(self, certificate: x509.Certificate) -> None:
        check_certificate(certificate, self.peer, self.options.wall_clock())

    def _handshake_of(self, datagram: bytes) -> PinnedConnection | None:
        """The handshake that a datagram belongs to, a new one for a first packet (RFC 9000 section 5.2.2)."""
        try:
            header = pull_quic_header(Buffer(data=datagram), host_cid_length=_CID_BYTES)
        except ValueError:
            return None
        destination = header.destination_cid
        for original, connection in self._handshakes.items():
            if destination in (original, connection.host_cid):
                # The one that was heard last is the last to be given up.
                self._handshakes[original] = self._handshakes.pop(original)
                return connection
        if header.packet_type is not QuicPacketType.INITIAL or len(datagram) < SMALLEST_PAYLOAD:
            return None
        if header.version not in self._settings.supported_versions:
            return None
        if len(self._handshakes) == _HANDSHAKES:
            del self._handshakes[next(iter(self._handshakes))]
        connection = self._handshakes[destination] = self._make_connection(destination)
        return connection

    def _connections(self) -> Iterator[PinnedConnection]:
        if self._connection is not None:
            yield self._connection
        yield from self._handshakes.values()

    def _established(self) -> PinnedConnection:
        if self._connection is None or not self.is_established:
            raise RuntimeError("the link is not established")
        return self._connection

    def _completed(self, connection: PinnedConnection, alpn: str | None) -> None:
        # Nothing gets here unproven; a change in aioquic that let it would be fatal, so it is asked again.
        if not connection.is_proven or not connection.is_certain or alpn != ALPN:
            connection.close(
                error_code=CloseCode.PROTOCOL_VIOLATION, reason_phrase="the handshake proved nothing"
            )
            return
        if self.role is LinkRole.LISTENER:
            self._connection = connection
            self._handshakes.clear()
            connection.send_stream_data(CONTROL_STREAM, _ACCEPTED)
            self._establish()

    def _establish(self) -> None:
        self.is_established = True
        self._outputs.append(Established())
        self._outputs += self._held
        self._held.clear()

    # -- what aioquic says ----------------------------------------------------------------------------------

    def _take_events(self, connection: PinnedConnection) -> None:
        while (event := connection.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self._completed(connection, event.alpn_protocol)
            elif isinstance(event, events.StreamDataReceived):
                self._stream_data(connection, event)
            elif isinstance(event, events.StreamReset):
                self._say(StreamReset(event.stream_id, event.error_code))
            elif isinstance(event, events.StopSendingReceived):
                self._say(StreamStopped(event.stream_id, event.error_code))
            elif isinstance(event, events.DatagramFrameReceived):
                self._say(DatagramReceived(event.data))

    def _stream_data(self, connection: PinnedConnection, event: events.StreamDataReceived) -> None:
        data = event.data
        if event.stream_id == CONTROL_STREAM and not self.is_established:
            # A dialer whose own part is done believes in the connection before the listener has judged it.
            connection.consumed(CONTROL_STREAM, len(_ACCEPTED))
            data = data[len(_ACCEPTED) :]
            self._establish()
        if data or event.end_stream:
            self._say(StreamData(event.stream_id, data, event.end_stream))

    def _say(self, output: LinkOutput) -> None:
        if self.is_established:
            self._outputs.append(output)
        elif not isinstance(output, DatagramReceived):
            # The windows of the streams bound what is held; nothing would bound the datagrams.
            self._held.append(output)

    def _flush(self, connection: PinnedConnection, now: float) -> None:
        if not connection.is_ending or not connection.ended_by_peer:
            self._transmit(connection, now)
        if connection.is_ending:
            self._ended(connection)

    def _transmit(self, connection: PinnedConnection, now: float) -> None:
        self._outputs += [Transmit(data) for data, _ in connection.datagrams_to_send(now)]

    def _ended(self, connection: PinnedConnection) -> None:
        if connection is not self._connection and connection.refusal is None and not connection.ended_by_peer:
            # A listener's handshake that came to nothing before anybody showed a certificate: anybody's.
            self._handshakes = {key: each for key, each in self._handshakes.items() if each is not connection}
            return
        code, frame_type, phrase = connection.ending
        by_peer = connection.ended_by_peer
        reason = reason_of(connection.refusal, code, frame_type, phrase, by_peer, self.options.idle_timeout)
        self._end(LinkClosed(reason, by_peer, code, application=frame_type is None and by_peer))

    def _end(self, closed: LinkClosed) -> None:
        self.closed = closed
        self.is_established = False
        self._handshakes.clear()
        self._held.clear()
        self._outputs.append(closed)

    def _ping_at(self, connection: PinnedConnection) -> float:
        if not self.options.keepalive:
            return float("inf")
        # The listener waits longer: while the dialer pings, both have heard something.
        share = 0.4 if self.role is LinkRole.DIALER else 0.6
        return max(self._pinged_at, connection.heard_at or 0.0) + share * self.options.idle_timeout

    def _take_outputs(self) -> list[LinkOutput]:
        outputs, self._outputs = self._outputs, []
        return outputs


def _shortened(reason: str) -> str:
    return reason.encode()[:200].decode(errors="ignore")
