"""Which way of connecting will work between two NATs? Worked out by letting both play by their rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from peerpath.nat.behaviour import Dependence, NatBehaviour, NatType, PortAssignment


class Method(StrEnum):
    """Ways to connect, the easiest one first."""

    DIRECT = "direct"
    """One side sends to the other's public address, and that is all."""
    HOLE_PUNCHING = "hole_punching"
    """Both send at the same time, and each answers to where it was reached from."""
    PORT_PREDICTION = "port_prediction"
    """The port of a mapping that does not exist yet is guessed from the ones before."""
    BIRTHDAY = "birthday"
    """Many sockets where ports can't be guessed, many guesses on the other side: likely, not certain."""
    RELAY = "relay"
    """Nothing of that: a TURN server carries the packets."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What matters of a NAT here; what is unknown is taken to be the strictest."""

    mapping: Dependence
    filtering: Dependence
    predictable: bool
    udp: bool = True

    @classmethod
    def of(cls, behaviour: NatBehaviour) -> _Rules:
        predictable = behaviour.port_assignment in (PortAssignment.PRESERVED, PortAssignment.SEQUENTIAL)
        return cls(
            _strict(behaviour.mapping),
            _strict(behaviour.filtering),
            predictable,
            not behaviour.udp_blocked,
        )


_Scope = tuple[()] | tuple[str] | tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An external transport address: whose, and its how manieth mapping, counted from 0."""

    address: str
    port: int


@dataclass(slots=True)
class _Side:
    """One host behind its NAT."""

    name: str
    rules: _Rules
    knows: set[_Endpoint] = field(default_factory=set)
    ports: dict[_Scope, int] = field(default_factory=dict)
    sent: dict[_Endpoint, set[_Endpoint]] = field(default_factory=dict)
    """What was sent out of each external address: it is there, and its filter lets those destinations in."""
    reached: bool = False

    def send(self, to: _Endpoint) -> _Endpoint:
        """Sends, and tells the source address that the other end sees (RFC 4787 section 4.1)."""
        port = self.ports.setdefault(_scope(to, self.rules.mapping), len(self.ports))
        source = _Endpoint(self.name, port)
        self.sent.setdefault(source, set()).add(to)
        return source

    def lets_in(self, source: _Endpoint, to: _Endpoint) -> bool:
        """Whether its NAT forwards a packet from `source` to its external address `to` (section 5)."""
        known = self.sent.get(to)
        if known is None:
            return False
        filtering = self.rules.filtering
        return _scope(source, filtering) in {_scope(destination, filtering) for destination in known}

    def progress(self) -> tuple[int, int, bool]:
        return len(self.knows), sum(map(len, self.sent.values())), self.reached


# Two NATs that map by destination and filter nothing answer each other from ever new ports; what matters has
# happened by then.
_ROUNDS = 6

_SERVER = _Endpoint("server", 0)


def predict(ours: NatBehaviour, theirs: NatBehaviour) -> Method:
    """The easiest method by which the two can talk UDP to each other, the relay where there is none.

    The two are taken to be at different public addresses.
    """
    return _predict(_Rules.of(ours), _Rules.of(theirs))


def can_connect_directly(ours: NatBehaviour, theirs: NatBehaviour) -> bool:
    """Whether a path without relay will come up by sending alone, no port guessed."""
    return predict(ours, theirs) in (Method.DIRECT, Method.HOLE_PUNCHING)


def typical(nat_type: NatType) -> NatBehaviour:
    """The behaviour that a class stands for. Nothing is assumed of its ports."""
    mapping, filtering, translated = _TYPICAL[nat_type]
    return NatBehaviour(mapping, filtering, translated, udp_blocked=nat_type is NatType.BLOCKED)


_EI, _AD = Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_DEPENDENT
_APD, _UNKNOWN = Dependence.ADDRESS_AND_PORT_DEPENDENT, Dependence.UNKNOWN
_TYPICAL: dict[NatType, tuple[Dependence, Dependence, bool | None]] = {
    NatType.OPEN_INTERNET: (_EI, _EI, False),
    NatType.FIREWALL: (_EI, _APD, False),
    NatType.FULL_CONE: (_EI, _EI, True),
    NatType.ADDRESS_RESTRICTED: (_EI, _AD, True),
    NatType.PORT_RESTRICTED: (_EI, _APD, True),
    NatType.SYMMETRIC: (_APD, _APD, True),
    NatType.BLOCKED: (_UNKNOWN, _UNKNOWN, None),
    NatType.UNKNOWN: (_UNKNOWN, _UNKNOWN, None),
}


@lru_cache(maxsize=1024)
def _predict(ours: _Rules, theirs: _Rules) -> Method:
    if not (ours.udp and theirs.udp):
        return Method.RELAY
    if _plays(ours, theirs, both_send=False) or _plays(theirs, ours, both_send=False):
        return Method.DIRECT
    if _plays(ours, theirs, both_send=True):
        return Method.HOLE_PUNCHING
    if _plays(ours, theirs, both_send=True, guess=True):
        return Method.PORT_PREDICTION
    # One side that keeps one address, and knows it, is enough to make guesses at the other worth while.
    if _EI in (ours.mapping, theirs.mapping):
        return Method.BIRTHDAY
    return Method.RELAY


def _plays(first: _Rules, second: _Rules, *, both_send: bool, guess: bool = False) -> bool:
    """Lets packets fly until nothing new happens: did something of each reach the other?

    Each side has asked a server, so that its public address for the server is known to the other. Without
    `both_send` the second side waits, and answers where it was reached from. With `guess` a side sends to the
    next port of the other instead, where that can be told beforehand.
    """
    a, b = _Side("a", first), _Side("b", second)
    for side, other in ((a, b), (b, a)):
        seen = other.send(_SERVER)
        if guess and other.rules.mapping is not _EI and other.rules.predictable:
            seen = _Endpoint(other.name, seen.port + 1)
        if side is a or both_send:
            side.knows.add(seen)
    for _ in range(_ROUNDS):
        before = a.progress(), b.progress()
        for sender, receiver in ((a, b), (b, a)):
            for destination in sorted(sender.knows, key=repr):
                source = sender.send(destination)
                if receiver.lets_in(source, destination):
                    receiver.knows.add(source)
                    receiver.reached = True
        if before == (a.progress(), b.progress()):
            break
    return a.reached and b.reached


def _scope(endpoint: _Endpoint, dependence: Dependence) -> _Scope:
    """The part of a remote endpoint that a mapping or filter of this dependence looks at."""
    if dependence is _EI:
        return ()
    return (endpoint.address,) if dependence is _AD else (endpoint.address, endpoint.port)


def _strict(dependence: Dependence) -> Dependence:
    return _APD if dependence is _UNKNOWN else dependence
