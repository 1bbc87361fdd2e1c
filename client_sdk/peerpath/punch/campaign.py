"""Campaign: when to send which packet of a tactic. Sans-IO; what a packet holds is for the caller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from stunwire import TransportAddress

from peerpath.punch.limits import PunchLimits
from peerpath.punch.tactics import Part, Tactic

_FIRST_PAUSE = 1.0
"""Seconds between two rounds, doubled each time; four round trips where those are longer."""

_FURTHER = 3
"""Hops by which the primers of each round get further than those of the one before."""

_LARGEST_BURST = 8
"""Packets that leave together at most, where the caller comes late."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet from the socket of this number; with `ttl` it need not get further than so many hops."""

    socket: int
    to: TransportAddress
    ttl: int | None = None


class Campaign:
    """From `start` until everything has been sent and a last answer could have come; then `is_over`.

    The guessing side begins when the other has opened its sockets, and half a round trip later: what
    arrives before is lost. Both go by their own clocks, from the moment at which each had both plans.
    What the opening side sends last goes all the way, when the guesses are over: whoever has not been
    guessed at is not expected there. Where both sides meet, the order of the packets counts and not their
    time, as long as no NAT forgets.
    """

    def __init__(self, tactic: Tactic, limits: PunchLimits, random: Random) -> None:
        self.tactic = tactic
        self.sent = 0
        self.is_over = False
        self._limits = limits
        self._random = random
        self._interval = 1 / limits.rate
        self._packets: Iterator[Probe] = iter(())
        self._next_at: float | None = None
        self._round = 0
        self._wait_until = self._guessed_at = 0.0
        self._settling = self._pause = max(_FIRST_PAUSE, 4 * tactic.round_trip)
        self._guesses = iter(self._in_order())

    def start(self, now: float) -> list[Probe]:
        rounds = self._limits.rounds if self.tactic.is_narrow and self.tactic.part is not Part.MEET else 1
        self._wait_until = now + self.tactic.opening + rounds * (self.tactic.guessing + self._pause)
        guessing = 0.0 if self.tactic.is_narrow else self.tactic.guessing
        self._guessed_at = now + self.tactic.opening + self.tactic.round_trip + guessing
        if self.tactic.part is not Part.GUESS:
            self._begin_round(now)
            return self.handle_timeout(now)
        self._begin_round(now + self.tactic.opening + self.tactic.round_trip / 2)
        return []

    def hold(self, now: float) -> None:
        """Something came through: sends nothing while it may become a path."""
        if self._next_at is not None:
            self._next_at = max(self._next_at, now + self._settling)

    def stop(self) -> None:
        """A path was found, or nobody is interested any more."""
        self.is_over = True
        self._next_at = None

    def next_deadline(self) -> float | None:
        return self._next_at

    def handle_timeout(self, now: float) -> list[Probe]:
        """The packets that are due by `now`."""
        probes: list[Probe] = []
        if self._next_at is not None:
            self._next_at = max(self._next_at, now - _LARGEST_BURST * self._interval)
        while self._next_at is not None and self._next_at <= now:
            probe = next(self._packets, None)
            if probe is None:
                self._end_round(self._next_at)
                continue
            probes.append(probe)
            self._next_at += self._interval
        self.sent += len(probes)
        return probes

    # -- rounds -----------------------------------------------------------------------------------------

    def _begin_round(self, at: float) -> None:
        self._round += 1
        self._next_at = at
        if self.tactic.part is Part.OPEN:
            ttl = self._primer_ttl()
            self._packets = (Probe(socket, self.tactic.target, ttl) for socket in range(self.tactic.sockets))
        elif self.tactic.part is Part.MEET:
            self._packets = self._meetings()
        else:
            if self.tactic.is_narrow:
                self._guesses = iter(self._in_order())
            left = self._limits.probes - self.sent
            self._packets = islice(self._guesses, min(self.tactic.probes, left))

    def _end_round(self, now: float) -> None:
        """After the last one there is still time for an answer."""
        if self._round > self._limits.rounds:
            self.stop()
            return
        if self._has_more():
            at = now + self._pause
            if self._round + 1 == self._limits.rounds and self._primer_ttl() is not None:
                at = max(at, self._guessed_at)
            self._begin_round(at)
        else:
            self._round = self._limits.rounds + 1
            self._packets = iter(())
            self._next_at = max(now + self._pause, self._wait_until)
        self._pause *= 2

    def _has_more(self) -> bool:
        if self._round >= self._limits.rounds or self.tactic.part is Part.MEET:
            return False
        if self.tactic.part is Part.OPEN:
            return True
        return self.tactic.is_narrow and self.sent < self._limits.probes

    def _primer_ttl(self) -> int | None:
        """Of a packet in this round, None in the last: a carrier's NAT may be further away than the first
        ones got."""
        if self._limits.primer_ttl is None or self._round >= self._limits.rounds:
            return None
        return self._limits.primer_ttl + (self._round - 1) * _FURTHER

    def _meetings(self) -> Iterator[Probe]:
        tactic = self.tactic
        for number in range(tactic.sockets):
            shift = number // tactic.per_shift if tactic.per_shift else 0
            port = tactic.pattern.ahead(number + 1 + shift)
            yield Probe(number, TransportAddress(tactic.target.host, port))

    def _in_order(self) -> Iterator[Probe]:
        if self.tactic.part is not Part.GUESS:
            return
        host = self.tactic.target.host
        for port in self.tactic.pattern.guesses(self.tactic.sockets, self.tactic.probes, self._random):
            yield Probe(0, TransportAddress(host, port))
