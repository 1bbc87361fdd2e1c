"""PunchLimits: how much a hard NAT may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PunchLimits:
    """Of one attempt. A packet has about 130 bytes, so that the default rate is 160 kbit/s."""

    rate: float = 150.0
    """Packets a second."""
    sockets: int = 256
    """What is opened where this side's ports can't be told beforehand."""
    probes: int = 2048
    """Packets to ports of the peer's NAT."""
    rounds: int = 3
    """How often all sockets send, with growing pauses, and how often a narrow range is gone through."""
    primer_ttl: int | None = 5
    """Hops of the first packet from each socket, which is to open our NAT and not to reach the peer's: some
    take a packet from nowhere amiss. In each round it gets three hops further, and in the last all the way;
    with None always."""
