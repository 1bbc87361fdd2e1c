"""Splice: a client's data connection and a peer's, joined (RFC 6062 section 5.5)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.plane import Traffic

_PART = 16_384
"""Bytes that are paid for at once: less than the smallest burst."""
_LONGEST_WAIT = 0.5
_SILENT_SECONDS = 300.0
"""How long one direction may be silent after the other one has ended: a client that has gone altogether
looks the same as one that only has no more to say."""


class StreamEnd(Protocol):
    """One of the two connections. What it reads, and whether it is congested, it tells its Way."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def end_writing(self) -> bool:
        """Says that nothing more comes, when all is written. Where that cannot be said alone it is closed
        like by `finish`, and the answer False."""

    def finish(self) -> None:
        """Closes when all is written, or soon in any case; nothing for one that is closed already."""


class Way:
    """One direction. Bytes that bandwidth or the receiver does not let pass make the sender wait."""

    def __init__(
        self,
        source: StreamEnd,
        target: StreamEnd,
        buckets: Sequence[TokenBucket],
        count: Callable[[int], None],
        clock: Callable[[], float],
        passed: Callable[[bool], None],
    ) -> None:
        """`buckets` are what each byte is paid from; `count` is told of bytes that passed, `passed` of the
        end of the source when it has, and whether the target may still write."""
        self._source = source
        self._target = target
        self._buckets = buckets
        self._count = count
        self._clock = clock
        self._passed = passed
        self._held = b""
        self._congested = False
        self._paused = False
        self._ended = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes) -> None:
        """The source has read this."""
        if self._ended:
            return
        self._held += data
        if self._timer is None:
            self._push()

    def set_congested(self, congested: bool) -> None:
        """The target has much to write, or little again."""
        self._congested = congested
        self._pause_or_resume()

    def source_ended(self) -> None:
        """The source says no more, and may still listen: the target is told so behind what was taken."""
        if not self._ended:
            self._ended = True
            if self._timer is None:
                self._push()

    def end(self) -> None:
        """Nothing is taken any more; the target is closed when it has what was taken."""
        self._ended = self._closing = True
        if self._timer is None:
            self._push()

    def _push(self) -> None:
        self._timer = None
        while self._held:
            part = self._held[:_PART] if self._buckets else self._held
            wait = self._spend(len(part))
            if wait:
                self._timer = asyncio.get_running_loop().call_later(wait, self._push)
                break
            self._held = self._held[len(part) :]
            self._target.write(part)
            self._count(len(part))
        if self._ended and not self._held:
            if self._closing:
                self._target.finish()
            else:
                self._passed(self._target.end_writing())
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        pause = self._congested or bool(self._held) or self._ended
        if pause == self._paused:
            return
        self._paused = pause
        if pause:
            self._source.pause_reading()
        else:
            self._source.resume_reading()

    def _spend(self, size: int) -> float:
        """0 if the bytes are paid, else seconds after which to try again."""
        now = self._clock()
        for position, bucket in enumerate(self._buckets):
            if not bucket.take(size, now):
                for paid in self._buckets[:position]:
                    paid.give_back(size)
                return min(size / bucket.rate, _LONGEST_WAIT)
        return 0.0


class Splice:
    """Both ways. Whichever end goes, the other one gets what was on its way, and goes too.

    An end that only stops writing (a FIN) is told to the other one, which goes on until it has said all.
    """

    def __init__(
        self,
        client: StreamEnd,
        peer: StreamEnd,
        buckets: Sequence[TokenBucket],
        traffic: Sequence[Traffic],
        clock: Callable[[], float],
    ) -> None:
        self._traffic = traffic
        self._peer = peer
        self._ways_left = 2
        self._has_moved = False
        self._silence: asyncio.TimerHandle | None = None
        self.to_peer = Way(client, peer, buckets, self._count_to_peer, clock, self._one_passed)
        self.to_client = Way(peer, client, buckets, self._count_to_client, clock, self._one_passed)

    def end(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self.to_peer.end()
        self.to_client.end()

    def _one_passed(self, goes_on: bool) -> None:
        self._ways_left -= 1
        if self._ways_left and goes_on:
            self._listen_for_silence()
        else:
            self._peer.finish()  # whose end is that of the connection

    def _listen_for_silence(self) -> None:
        self._has_moved = False
        self._silence = asyncio.get_running_loop().call_later(_SILENT_SECONDS, self._on_silence)

    def _on_silence(self) -> None:
        if self._has_moved:
            self._listen_for_silence()
        else:
            self._peer.finish()

    def _count_to_peer(self, size: int) -> None:
        self._has_moved = True
        for traffic in self._traffic:
            traffic.packets_to_peer += 1
            traffic.bytes_to_peer += size

    def _count_to_client(self, size: int) -> None:
        self._has_moved = True
        for traffic in self._traffic:
            traffic.packets_from_peer += 1
            traffic.bytes_from_peer += size
