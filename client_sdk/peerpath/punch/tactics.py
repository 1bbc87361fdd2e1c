"""Which of the two opens sockets and which guesses ports, from the plans of both: a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stunwire import TransportAddress

from peerpath.predict.pattern import Pattern, PortPattern
from peerpath.punch.plan import PunchPlan

_NARROW_SOCKETS = {Pattern.INCREMENT: 16, Pattern.BLOCK: 64}
_NARROW_PROBES = {Pattern.INCREMENT: 640, Pattern.BLOCK: 1024}
_MEETINGS = 256
_MEETINGS_PER_SHIFT = 8
"""How often each shift is tried: for loss, and for mappings that others make on the leading side."""
FALLBACK_ROUND_TRIP = 0.3
"""Seconds between two peers of whom no server has told anything."""


class Part(StrEnum):
    """What one side does."""

    OPEN = "open"
    """Sends to the other's one address from several sockets, each of which gets a port of its own."""
    GUESS = "guess"
    """Sends from one socket to many ports of the other's NAT."""
    MEET = "meet"
    """Both NATs count: the first packet of each side goes to the port that the other's first one makes, the
    second to that of the second, each from a socket of its own."""


@dataclass(frozen=True, slots=True)
class Tactic:
    """What this side does. `chance` of success, 0 to 1, by the formula of the pattern."""

    part: Part
    pattern: PortPattern
    """Of the side that opens; where both sides meet, of the other one."""
    target: TransportAddress
    """Whom the opening side sends to; for the others the port has no meaning."""
    sockets: int
    """How many the opening side uses, or each of two that meet."""
    probes: int
    """How many guesses the other side makes in one round, or in all where ports are random."""
    round_trip: float
    """Seconds between the peers, from what was measured."""
    opening: float
    """Seconds that the opening side needs until it has sent from all of its sockets."""
    guessing: float
    """Seconds that one round of guesses takes."""
    chance: float
    per_shift: int = 0
    """Where both sides meet, one of them aims one mapping further after so many packets: others behind the
    two NATs may have made mappings since the samples, and how many is found so. 0: aims always the same."""

    @property
    def is_narrow(self) -> bool:
        """The ports are foretold or in a small range, so that one round goes through all of them."""
        return self.pattern.kind in _NARROW_SOCKETS


@dataclass(frozen=True, slots=True)
class NoTactic:
    """There is nothing to be done; `reason` for a person."""

    reason: str


def choose_tactic(
    ours: PunchPlan, theirs: PunchPlan, *, round_trip: float | None = None
) -> Tactic | NoTactic:
    """Both sides come to matching results. `round_trip` is that of a path between them, if there is one."""
    for plan, whose in ((ours, "this side"), (theirs, "the peer")):
        if plan.reason:
            return NoTactic(f"{whose} can't: {plan.reason}")
        if plan.host is None:
            return NoTactic(f"{whose} has no public address")
    if ours.is_easy and theirs.is_easy:
        return NoTactic("neither NAT needs it: plain checks connect the two")
    times = [plan.round_trip for plan in (ours, theirs) if plan.round_trip is not None]
    between = round_trip or sum(times) or FALLBACK_ROUND_TRIP
    if not ours.is_easy and not theirs.is_easy:
        if ours.pattern.kind is theirs.pattern.kind is Pattern.INCREMENT and ours.host != theirs.host:
            return _meeting(ours, theirs, between)
        return NoTactic(
            "both NATs give each destination another port, and not both by counting: each guess would change"
            " the port that the other side guesses at"
        )
    hard = theirs if ours.is_easy else ours
    easy = ours if ours.is_easy else theirs
    pattern = hard.pattern
    if pattern.kind in (Pattern.UNKNOWN, Pattern.CONSTANT):
        return NoTactic("how the one NAT maps could not be told: that takes servers at two addresses")
    assert hard.host is not None
    assert easy.address is not None
    sockets = min(_NARROW_SOCKETS.get(pattern.kind, hard.sockets), hard.sockets)
    probes = min(_NARROW_PROBES.get(pattern.kind, easy.probes), easy.probes)
    return Tactic(
        Part.GUESS if ours.is_easy else Part.OPEN,
        pattern,
        TransportAddress(hard.host, 0) if ours.is_easy else easy.address,
        sockets,
        probes,
        between,
        sockets / hard.rate,
        probes / easy.rate,
        pattern.chance(sockets, probes),
    )


def _meeting(ours: PunchPlan, theirs: PunchPlan, between: float) -> Tactic:
    """Two NATs that count.

    With a and b mappings made by others since the samples, packet i of the one side meets packet j of the
    other where i = j + b and j + shift = i + a, so that the shift is a + b whatever j is.
    """
    assert ours.host is not None
    assert theirs.host is not None
    packets = min(_MEETINGS, ours.sockets, theirs.sockets, ours.probes, theirs.probes)
    return Tactic(
        Part.MEET,
        theirs.pattern,
        TransportAddress(theirs.host, 0),
        packets,
        packets,
        between,
        0.0,
        packets / min(ours.rate, theirs.rate),
        ours.pattern.chance(packets, packets) * theirs.pattern.chance(packets, packets),
        _MEETINGS_PER_SHIFT if ours.host > theirs.host else 0,
    )
