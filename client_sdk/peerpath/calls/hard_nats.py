"""HardNats: where plain checks found only a relayed path, both sides sample their NATs and punch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peerpath.calls.bodies import BodyError, Kind
from peerpath.calls.kit import CallKit
from peerpath.calls.route import Route
from peerpath.connection.report import AttemptReport
from peerpath.ice.address_policy import is_link_local
from peerpath.ice.description import Description
from peerpath.nat.behaviour import NatType
from peerpath.nat.compatibility import typical
from peerpath.plan import Side, make_plan
from peerpath.punch.plan import PlanError, PunchPlan
from peerpath.punch.tactics import NoTactic

WAIT_FOR_CHECKS = 1.0
"""Seconds on a relayed path before anything else is tried: plain checks are often just about to succeed."""

Tell = Callable[[Kind, Mapping[str, Any]], None]


class HardNats:
    """One attempt's. The dialer proposes, the listener answers; both begin as soon as they know both plans.

    The plans are samples of the moment: peerpath.punch acts on them, peerpath.plan says what they promise.
    """

    def __init__(self, kit: CallKit, report: AttemptReport, tell: Tell, note: Callable[[str], None]) -> None:
        self._kit = kit
        self._report = report
        self._tell = tell
        self._note = note
        self._ours: dict[int, PunchPlan] = {}
        self.peer_nat = NatType.UNKNOWN
        self.families = self.peer_families = frozenset[int]()
        """The versions of IP that this side and the peer have; empty while unknown."""

    def plan(
        self, *, is_trusted: bool, ours: PunchPlan | None = None, theirs: PunchPlan | None = None
    ) -> None:
        """What is worth trying, by what is known now: into the report."""
        self._report.plan = make_plan(
            Side(self._kit.behaviour(), ours, families=self.families),
            Side(typical(self.peer_nat), theirs, families=self.peer_families),
            self._kit.policy(is_trusted),
        )

    async def propose(self, route: Route) -> None:
        """The dialer's part."""
        self._ours[route.number] = ours = await route.endpoint.hard_nat_plan(self._kit.behaviour())
        self._tell(Kind.PUNCH, {"route": route.number, "plan": ours.as_json()})

    async def heard(self, route: Route, body: Mapping[str, Any]) -> None:
        """The peer's plan: the listener makes one of its own first."""
        try:
            theirs = PunchPlan.from_json(body.get("plan"))
        except PlanError as error:
            raise BodyError(f"plan: {error}") from None
        if route.number not in self._ours:
            await self.propose(route)
        ours = self._ours.pop(route.number)
        if route.path is None or not route.path.is_relayed:
            return  # it has become direct meanwhile
        if ours.reason:
            self._note(f"no punching: this side can't: {ours.reason}")
            return
        self.plan(is_trusted=True, ours=ours, theirs=theirs)
        try:
            decision = route.endpoint.begin_punch(theirs)
        except RuntimeError as error:
            self._note(f"no punching: {error}")
            return
        if isinstance(decision, NoTactic):
            self._note(f"no punching: {decision.reason}")
        else:
            kind = decision.pattern.kind.value
            self._note(f"punching through a NAT with {kind} ports, {decision.chance:.0%} by the formula")


def families_of(description: Description) -> frozenset[int]:
    """The versions of IP of the side that has so described itself; empty where it keeps that to itself."""
    own = [candidate for candidate in description.candidates if not candidate.is_relayed]
    if any(candidate.is_name for candidate in own):
        return frozenset()
    hosts = [candidate.address.host for candidate in own]
    return frozenset(6 if ":" in host else 4 for host in hosts if not is_link_local(host))
