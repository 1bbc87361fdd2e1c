"""PortPattern: what a handful of external ports, in the order in which they were given out, has in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from random import Random

FIRST_PORT, LAST_PORT = 1024, 65535
PORTS = LAST_PORT - FIRST_PORT + 1
"""64512: those that a NAT chooses from (RFC 4787 section 4.2.1 keeps the well-known ones apart)."""

_LARGEST_STEP = 32
"""Between two mappings; other hosts behind the same NAT take ports in between."""
_MOST_STALE, _SHORTEST_CHAIN = 2, 4
"""A socket that got the number of one which was closed a moment ago has that one's mappings: so many samples
may be none of the sequence, if so many are."""
_LARGEST_BLOCK = 2048
"""Six random ports lie as close together once in five million times."""
_MARGIN = 64
"""Ports by which the NAT may have gone on between the samples and the guesses."""


class Pattern(StrEnum):
    CONSTANT = "constant"
    """One port for all: there is nothing to guess."""
    INCREMENT = "increment"
    """The last one plus a small step, always in one direction."""
    BLOCK = "block"
    """Anywhere in a small range, as carriers hand them out."""
    RANDOM = "random"
    """Nothing in common."""
    UNKNOWN = "unknown"
    """Too few to tell."""


@dataclass(frozen=True, slots=True)
class PortPattern:
    """`last` is the newest sample, `low` and `high` their range; steps are signed, 0 where there are none."""

    kind: Pattern
    last: int = 0
    low: int = 0
    high: int = 0
    step: int = 0
    """The one that was most often seen."""
    largest_step: int = 0

    @property
    def is_exact(self) -> bool:
        """Every step was the same."""
        return self.kind is Pattern.INCREMENT and self.step == self.largest_step

    def ahead(self, number: int) -> int:
        """Of a pattern that counts: the port of the mapping of this number after the samples, the first being
        1, if nobody else makes any."""
        return _wrapped(self.last + number * self.step)

    def guesses(self, sockets: int, count: int, random: Random) -> list[int]:
        """At most `count` ports, the likeliest first, of the `sockets` mappings that come next, each once."""
        if self.kind is Pattern.INCREMENT:
            return self._all_ahead(sockets)[:count]
        if self.kind is Pattern.BLOCK:
            return self._around()[:count]
        if self.kind is Pattern.RANDOM:
            return random.sample(range(FIRST_PORT, LAST_PORT + 1), min(count, PORTS))
        return []

    def chance(self, sockets: int, count: int) -> float:
        """That one of `count` guesses hits one of `sockets` mappings, 0 to 1.

        1 - exp(-kn/N) with k mappings, n guesses and N ports to choose from. Of a sequence only what lies
        within the margin is foretold: it counts as certain there.
        """
        if self.kind is Pattern.INCREMENT:
            return 0.99 if self.is_exact else 0.98
        if self.kind not in (Pattern.BLOCK, Pattern.RANDOM):
            return 0.0
        among = PORTS if self.kind is Pattern.RANDOM else len(self._around())
        return 1 - math.exp(-sockets * min(count, among) / among)

    def _all_ahead(self, sockets: int) -> list[int]:
        """In the direction of the steps, first what the very next mappings would be."""
        sign = 1 if self.step > 0 else -1
        reach = abs(self.largest_step) * sockets + _MARGIN
        offsets = range(1, reach + 1)
        if self.is_exact:
            # NATs that keep the parity of ports go in twos; what another host has put off comes last.
            offsets = sorted(offsets, key=lambda offset: offset % abs(self.step) != 0)  # type: ignore[assignment]
        return [_wrapped(self.last + sign * offset) for offset in offsets]

    def _around(self) -> list[int]:
        """From the middle of what was seen outward, to where a block of twice the range would end."""
        size = max(512, 2 * (self.high - self.low + 1))
        first, last = max(FIRST_PORT, self.high - size), min(LAST_PORT, self.low + size)
        middle = (self.low + self.high) // 2
        return sorted(range(first, last + 1), key=lambda port: abs(port - middle))


def pattern_of(ports: Sequence[int]) -> PortPattern:
    """What fits `ports`, external ones of one NAT in the order in which their mappings were made."""
    if not ports:
        return PortPattern(Pattern.UNKNOWN)
    last, low, high = ports[-1], min(ports), max(ports)
    if len(ports) == 1:
        return PortPattern(Pattern.UNKNOWN, last, low, high)
    if low == high:
        return PortPattern(Pattern.CONSTANT, last, low, high)
    if len(ports) < 3:
        return PortPattern(Pattern.UNKNOWN, last, low, high)
    chain = max((_chain(ports[start:], sign) for start in range(3) for sign in (1, -1)), key=len)
    if len(chain) == len(ports) or len(chain) >= max(_SHORTEST_CHAIN, len(ports) - _MOST_STALE):
        steps = [_step(earlier, later) for earlier, later in pairwise(chain)]
        [(usual, _)] = Counter(steps).most_common(1)
        return PortPattern(Pattern.INCREMENT, chain[-1], min(chain), max(chain), usual, max(steps, key=abs))
    if high - low < _LARGEST_BLOCK:
        return PortPattern(Pattern.BLOCK, last, low, high)
    return PortPattern(Pattern.RANDOM, last, low, high)


def _chain(ports: Sequence[int], sign: int) -> list[int]:
    """The first and what follows it in small steps of one direction."""
    chain = [ports[0]]
    for port in ports[1:]:
        if 0 < sign * _step(chain[-1], port) <= _LARGEST_STEP:
            chain.append(port)
    return chain


def _step(earlier: int, later: int) -> int:
    """From one port to the next, over the end of the range where that is the shorter way."""
    step = later - earlier
    if step > PORTS // 2:
        return step - PORTS
    return step + PORTS if step < -PORTS // 2 else step


def _wrapped(port: int) -> int:
    return FIRST_PORT + (port - FIRST_PORT) % PORTS
