"""StreamTable: the streams of one link, and what arrives on them."""

from __future__ import annotations

from collections.abc import Callable

from peerpath.connection.errors import StreamError
from peerpath.connection.streams import Stream
from peerpath.quic import SecureLink, StreamData, StreamReset, StreamStopped


class StreamTable:
    """Begins and ends with its link. `accepted` gets the streams the peer opens; `wake` sends packets."""

    def __init__(
        self,
        link: SecureLink,
        now: Callable[[], float],
        wake: Callable[[], None],
        accepted: Callable[[Stream], None],
        in_flight: int,
    ) -> None:
        self._link: SecureLink | None = link
        self._now = now
        self._wake = wake
        self._accepted = accepted
        self._in_flight = in_flight
        self._streams: dict[int, Stream] = {}

    def open(self) -> Stream:
        """A new stream of this side."""
        if self._link is None:
            raise StreamError("the link of the stream is gone")
        number = self._link.open_stream()
        stream = self._streams[number] = Stream(number, self, self._in_flight).taken()
        return stream

    def take(self, output: StreamData | StreamReset | StreamStopped) -> None:
        """What the link said about a stream."""
        stream = self._streams.get(output.stream)
        if stream is None:
            stream = self._streams[output.stream] = Stream(output.stream, self, self._in_flight)
            self._accepted(stream)
        if isinstance(output, StreamData):
            stream.arrived(output.data, output.end)
        elif isinstance(output, StreamReset):
            stream.was_reset(output.code)
        else:
            stream.was_stopped(output.code)

    def progressed(self) -> None:
        """Packets arrived, so something may have been acknowledged.

        A stream is forgotten only when QUIC is done with it: what came later would look like a new one.
        """
        for stream in list(self._streams.values()):
            stream.progressed()
            if self._link is not None and self._link.is_over(stream.number):
                del self._streams[stream.number]

    def lost(self, reason: str) -> None:
        """The link is gone, and every stream with it."""
        self._link = None
        for stream in self._streams.values():
            stream.lost(reason)
        self._streams.clear()

    # -- StreamCarrier --------------------------------------------------------------------------------------

    def send_stream(self, stream: int, data: bytes, *, end: bool = False) -> None:
        if self._link is not None:
            self._link.send_stream(stream, data, self._now(), end=end)
            self._wake()

    def unacknowledged(self, stream: int) -> int:
        return self._link.unacknowledged(stream) if self._link is not None else 0

    def consumed(self, stream: int, size: int) -> None:
        if self._link is not None:
            self._link.consumed(stream, size, self._now())
            self._wake()

    def reset_stream(self, stream: int, code: int) -> None:
        if self._link is not None:
            self._link.reset_stream(stream, code, self._now())
            self._wake()

    def stop_stream(self, stream: int, code: int) -> None:
        if self._link is not None:
            self._link.stop_stream(stream, code, self._now())
            self._wake()
