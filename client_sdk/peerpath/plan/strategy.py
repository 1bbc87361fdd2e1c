"""Strategies, what is known of both sides, and the plan that is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from peerpath.nat.behaviour import NatBehaviour
from peerpath.punch.plan import PunchPlan


class Strategy(StrEnum):
    """Ways to a peer, those first that make the better path."""

    ICE = "ice"
    """Host and server-reflexive candidates, checked from both sides."""
    PORT_MAPPING = "portmap"
    PREDICTION = "predicted"
    BIRTHDAY = "birthday"
    TCP = "tcp"
    """ICE over TCP, simultaneous opening included."""
    RELAY = "relay"
    TCP_RELAY = "tcp_relay"
    """A relay that meets peers over TCP (RFC 6062)."""
    TUNNEL = "tunnel"
    PROXY = "proxy"
    ONION = "onion"

    @property
    def is_direct(self) -> bool:
        return self in _DIRECT


_DIRECT = (Strategy.ICE, Strategy.PORT_MAPPING, Strategy.PREDICTION, Strategy.BIRTHDAY, Strategy.TCP)


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one side; the defaults say nothing."""

    behaviour: NatBehaviour = field(default_factory=NatBehaviour)
    punch: PunchPlan | None = None
    """Its samples, if it has taken them already."""
    maps_ports: bool | None = None
    """Whether its router has forwarded a port; None while that is not known."""
    has_ipv6: bool = False
    """A global address of its own, which no NAT translates."""
    families: frozenset[int] = frozenset()
    """The versions of IP that it has addresses of, 4 and 6; empty while that is not known."""


@dataclass(frozen=True, slots=True)
class Step:
    """`stage` counts from 0: steps of one stage run side by side, and the next stage begins when none of
    them has led to a direct path. `chance` is a prediction, 0 to 1."""

    strategy: Strategy
    stage: int
    chance: float
    reason: str
    """What the prediction rests on."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    strategy: Strategy
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """Each strategy is in one of the two lists, once."""

    steps: tuple[Step, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def stages(self) -> list[list[Step]]:
        last = max((step.stage for step in self.steps), default=-1)
        return [[step for step in self.steps if step.stage == stage] for stage in range(last + 1)]

    @property
    def direct_chance(self) -> float:
        """That one of the direct ways works, as if they knew nothing of each other."""
        return 1 - math.prod(1 - step.chance for step in self.steps if step.strategy.is_direct)

    @property
    def chance(self) -> float:
        """That there is any way at all."""
        return 1 - math.prod(1 - step.chance for step in self.steps)

    def includes(self, strategy: Strategy) -> bool:
        return any(step.strategy is strategy for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        return {
            "steps": [
                {
                    "strategy": step.strategy.value,
                    "stage": step.stage,
                    "chance": round(step.chance, 4),
                    "reason": step.reason,
                }
                for step in self.steps
            ],
            "leftOut": [{"strategy": out.strategy.value, "reason": out.reason} for out in self.left_out],
        }

    def __str__(self) -> str:
        lines = [
            f"  {step.stage + 1}. {step.strategy.value:<10}{step.chance:>5.0%}  {step.reason}"
            for step in self.steps
        ]
        lines += [f"  -  {out.strategy.value:<10}       {out.reason}" for out in self.left_out]
        return "\n".join([f"direct {self.direct_chance:.0%}, at all {self.chance:.0%}", *lines])
