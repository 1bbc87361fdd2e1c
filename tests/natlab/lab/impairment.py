"""Delay, loss, reordering and a rate limit, without netem: a queue of packets by the time they come out."""

from __future__ import annotations

import dataclasses
import heapq
import random

from .packets import adjust


@dataclasses.dataclass(frozen=True)
class Impairment:
    """One direction of a path. Times in seconds, one way; a host sees the sum of both directions."""

    delay: float = 0.0
    jitter: float = 0.0  # up to so much more delay; alone it never reorders
    loss: float = 0.0  # the share of packets, 0 to 1
    reorder: float = 0.0  # the share of packets held back so that later ones overtake them
    reorder_by: float = 0.01  # how long those are held back
    hops: int = 0  # routers on the way, beside those of the lab; IPv4 packets whose time is up end there
    rate: float | None = None  # bits per second
    queue: float = 0.25  # the longest that a packet waits for the rate; one that would wait longer is dropped

    def __post_init__(self) -> None:
        for name in ("loss", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)!r}")


UNIMPAIRED = Impairment()


class Link:
    """One direction. `push` what arrives, `due` gives what leaves."""

    def __init__(self, impairment: Impairment | None = None, seed: int | None = None) -> None:
        self.impairment = impairment or UNIMPAIRED
        self.cut_until = 0.0
        self.dropped = 0
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int, bytearray]] = []
        self._serial = 0
        self._line_free_at = 0.0  # when the rate limiter has sent all it holds
        self._latest = 0.0  # when the last packet in order leaves

    def push(self, packet: bytearray, now: float) -> None:
        how = self.impairment
        if self.cut_until and now >= self.cut_until:
            self.cut_until = 0.0
        if self.cut_until or (how.loss and self._random.random() < how.loss):
            self.dropped += 1
            return
        if how.hops and packet[0] >> 4 == 4:
            if packet[8] <= how.hops:
                self.dropped += 1
                return
            packet[8] -= how.hops
            adjust(packet, 10, 0xFFFF ^ (how.hops << 8))  # one's complement: minus
        leaves_at = now
        if how.rate:
            if self._line_free_at - now > how.queue:
                self.dropped += 1
                return
            leaves_at = self._line_free_at = max(now, self._line_free_at) + len(packet) * 8 / how.rate
        leaves_at += how.delay
        if how.jitter:
            leaves_at += self._random.random() * how.jitter
        if how.reorder and self._random.random() < how.reorder:
            leaves_at += how.reorder_by
        else:
            leaves_at = self._latest = max(leaves_at, self._latest)
        self._serial += 1
        heapq.heappush(self._queue, (leaves_at, self._serial, packet))

    def due(self, now: float) -> list[bytearray]:
        packets = []
        while self._queue and self._queue[0][0] <= now:
            packets.append(heapq.heappop(self._queue)[2])
        return packets

    @property
    def next_at(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    @property
    def is_direct(self) -> bool:
        """Nothing to do and nothing waiting: packets need not be queued at all."""
        return not self._queue and not self.cut_until and self.impairment == UNIMPAIRED
