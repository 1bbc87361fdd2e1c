"""Which pairs of NAT kinds can plain hole punching connect? Worked out from the rules of RFC 4787.

Plain means: each side knows one server-reflexive address of the other, both send to what they know again and
again, and each adds the sources that it sees (peer-reflexive addresses). No port is guessed, nothing is
relayed. The two sides are at different public addresses, and so is the server.
"""

from __future__ import annotations

import dataclasses

from .kinds import KINDS, Dependence, NatKind


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An external transport address, by name: `port` says for which destination the NAT made the mapping."""

    address: str
    port: tuple[str, ...]


SERVER = Endpoint("server", ())


class Side:
    """One host behind its NAT: what the NAT lets out under which address, and what it lets in."""

    def __init__(self, name: str, kind: NatKind) -> None:
        self.name, self.kind = name, kind
        self.sent_through: dict[Endpoint, set[Endpoint]] = {}
        self.known_remotes: set[Endpoint] = set()
        self.reached = False  # has anything of the peer's come in?

    def send_to(self, destination: Endpoint) -> Endpoint:
        """The source address that `destination` sees (RFC 4787 section 4.1). Opens the filter on the way."""
        source = Endpoint(self.name, _scope(destination, self.kind.mapping))
        self.sent_through.setdefault(source, set()).add(destination)
        return source

    def lets_in(self, source: Endpoint, destination: Endpoint) -> bool:
        """Does a packet from `source` to the external address `destination` reach the host (section 5)?"""
        if destination not in self.sent_through:
            return False  # no such mapping
        allowed = {_scope(sent_to, self.kind.filtering) for sent_to in self.sent_through[destination]}
        return _scope(source, self.kind.filtering) in allowed

    def knowledge(self) -> tuple[int, int, bool]:
        """Grows while the punching still changes something."""
        return len(self.known_remotes), sum(map(len, self.sent_through.values())), self.reached


def _scope(remote: Endpoint, dependence: Dependence) -> tuple[str, ...]:
    """The part of a remote endpoint that a mapping or a filter of this dependence looks at."""
    return ((), (remote.address,), (remote.address, *remote.port))[dependence]


def can_punch(kind_a: str | NatKind, kind_b: str | NatKind) -> bool:
    """True if plain UDP hole punching connects the two, both ways."""
    a = Side("a", KINDS[kind_a] if isinstance(kind_a, str) else kind_a)
    b = Side("b", KINDS[kind_b] if isinstance(kind_b, str) else kind_b)
    if not (a.kind.udp_passes and b.kind.udp_passes):
        return False
    a.known_remotes.add(b.send_to(SERVER))
    b.known_remotes.add(a.send_to(SERVER))
    # Every round opens a filter, teaches a side a new source, or changes nothing; there are few addresses.
    while True:
        before = a.knowledge(), b.knowledge()
        for sender, receiver in ((a, b), (b, a)):
            for remote in sorted(sender.known_remotes, key=repr):
                source = sender.send_to(remote)
                if receiver.lets_in(source, remote):
                    receiver.known_remotes.add(source)
                    receiver.reached = True
        if before == (a.knowledge(), b.knowledge()):
            return a.reached and b.reached
