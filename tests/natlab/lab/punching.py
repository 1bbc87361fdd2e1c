"""Plain UDP hole punching, many pairs at a time: what `theory.can_punch` foretells, done with real packets.

One server-reflexive address each. Both sides send to all they know of the other, every `INTERVAL`; a source
that they see is a peer-reflexive address and one more to send to. A pair is connected when both sides have
heard, from an address that they answer to, that they are heard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import selectors
import socket
import time
from collections.abc import Iterable

from .host import Host
from .probe import Address, Blocked, Probe

INTERVAL = 0.1


@dataclasses.dataclass
class _End:
    """One side of a pair."""

    source: socket.socket
    pair: int
    reflexive: Address | None = None
    remotes: set[Address] = dataclasses.field(default_factory=set)
    hears: bool = False  # something of the peer has arrived
    is_heard: bool = False  # and it said that it hears us

    def send(self) -> None:
        word = b"%d %s" % (self.pair, b"heard" if self.hears else b"hello")
        for remote in self.remotes:
            # An ICMP error for an earlier packet must not stop the next.
            with contextlib.suppress(OSError):
                self.source.sendto(word, remote)

    def receive(self) -> None:
        with contextlib.suppress(OSError):
            word, remote = self.source.recvfrom(2048)
            pair, _, state = word.partition(b" ")
            if pair == b"%d" % self.pair:
                self.remotes.add(remote)
                self.hears = True
                self.is_heard = self.is_heard or state == b"heard"


def punch(pairs: Iterable[tuple[Host, Host]], probe: Probe, seconds: float = 4.0) -> list[bool]:
    """Try to connect all pairs at once. True for those that are connected, in their order.

    So many seconds' rounds, which a busy machine takes longer for.
    """
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        ends: list[tuple[_End, _End]] = []
        unreflected: set[Host] = set()
        for number, hosts in enumerate(pairs):
            made = []
            for host in hosts:
                end = _End(stack.enter_context(host.socket()), number)
                selector.register(end.source, selectors.EVENT_READ, end)
                if host not in unreflected:
                    try:
                        end.reflexive = probe.observe(end.source, timeout=3.0)
                    except Blocked:
                        unreflected.add(host)
                end.source.setblocking(False)
                made.append(end)
            ends.append((made[0], made[1]))
        for left, right in ends:
            left.remotes |= {right.reflexive} - {None}
            right.remotes |= {left.reflexive} - {None}
        rounds, next_round = round(seconds / INTERVAL), 0.0
        while not all(a.is_heard and b.is_heard for a, b in ends):
            if (now := time.monotonic()) >= next_round:
                if not rounds:
                    break
                rounds, next_round = rounds - 1, now + INTERVAL
                for end in (end for pair in ends for end in pair):
                    end.send()
            for key, _ in selector.select(max(0.0, next_round - time.monotonic())):
                key.data.receive()
        return [left.is_heard and right.is_heard for left, right in ends]
