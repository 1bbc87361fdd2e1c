"""Two links and a wire between them, on a virtual clock: delay, loss, duplication, reordering, silence."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

from peerpath.identity import Identity, PublicKey
from peerpath.quic import LinkClosed, LinkOptions, LinkOutput, LinkRole, SecureLink, Transmit

ALICE, BOB, MALLORY = Identity.generate(), Identity.generate(), Identity.generate()
TODAY = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIALER, LISTENER = LinkRole.DIALER, LinkRole.LISTENER

T = TypeVar("T")


def other(role: LinkRole) -> LinkRole:
    return LISTENER if role is DIALER else DIALER


class Wire:
    """Alice dials, Bob listens, unless the test puts other links (or anything like one) at the ends.

    `passes` says of each datagram (sender, bytes) whether it gets through; `sent` has all of them.
    """

    def __init__(
        self,
        dialer: Any = None,
        listener: Any = None,
        *,
        delay: float = 0.02,
        loss: float = 0.0,
        duplicates: float = 0.0,
        jitter: float = 0.0,
        seed: int = 1,
        options: LinkOptions | None = None,
    ) -> None:
        self.now = 0.0
        self.ends: dict[LinkRole, Any] = {
            DIALER: dialer or link(DIALER, options=options),
            LISTENER: listener or link(LISTENER, options=options),
        }
        self.heard: dict[LinkRole, list[tuple[float, LinkOutput]]] = {DIALER: [], LISTENER: []}
        self.sent: list[tuple[LinkRole, bytes]] = []
        self.passes: Callable[[LinkRole, bytes], bool] = lambda role, data: True
        self.delay, self.loss, self.duplicates, self.jitter = delay, loss, duplicates, jitter
        self._random = Random(seed)
        self._flying: list[tuple[float, int, LinkRole, bytes]] = []
        self._count = itertools.count()

    @property
    def dialer(self) -> SecureLink:
        return self.ends[DIALER]

    @property
    def listener(self) -> SecureLink:
        return self.ends[LISTENER]

    def all(self, role: LinkRole, kind: type[T]) -> list[T]:
        """What one end said, of one kind."""
        return [output for _, output in self.heard[role] if isinstance(output, kind)]

    def closed(self, role: LinkRole) -> LinkClosed:
        [closed] = self.all(role, LinkClosed)
        return closed

    def carry(self, role: LinkRole, outputs: list[LinkOutput]) -> None:
        """What the end `role` said: datagrams onto the wire, the rest into `heard`."""
        for output in outputs:
            if not isinstance(output, Transmit):
                self.heard[role].append((self.now, output))
                continue
            self.sent.append((role, output.data))
            if not self.passes(role, output.data):
                continue
            copies = 0 if self._random.random() < self.loss else 1
            copies += self._random.random() < self.duplicates
            for _ in range(copies):
                at = self.now + self.delay + self._random.uniform(0, self.jitter)
                heapq.heappush(self._flying, (at, next(self._count), other(role), output.data))

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> None:
        """Lets time pass, at most `seconds` of it, and no more once `until` is true."""
        end = self.now + seconds
        while not until():
            times = [self._flying[0][0]] if self._flying else []
            times += [at for each in self.ends.values() if (at := each.next_deadline()) is not None]
            soonest = min(times, default=end)
            if soonest > end:
                break
            self.now = max(self.now, soonest)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, role, data = heapq.heappop(self._flying)
                self.carry(role, self.ends[role].receive(data, self.now))
            for role, each in self.ends.items():
                deadline = each.next_deadline()
                if deadline is not None and deadline <= self.now:
                    self.carry(role, each.handle_timeout(self.now))
            if not times:
                break
        else:
            return
        self.now = end

    def establish(self) -> Wire:
        self.run(10, until=lambda: self.dialer.is_established and self.listener.is_established)
        assert self.dialer.is_established
        assert self.listener.is_established
        return self


def link(
    role: LinkRole,
    identity: Identity | None = None,
    peer: PublicKey | None = None,
    *,
    at: datetime = TODAY,
    options: LinkOptions | None = None,
) -> SecureLink:
    """Alice's link to Bob, or Bob's to Alice, if nothing else is said. `at` is what their calendar shows."""
    mine, theirs = (ALICE, BOB) if role is DIALER else (BOB, ALICE)
    options = options or LinkOptions(wall_clock=lambda: at)
    return SecureLink(role, identity or mine, peer or theirs.public_key, now=0.0, options=options)
