"""ConnectionReport: everything that was tried for one connection, with reason and time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peerpath.errors import ServerFailure
from peerpath.ice.report import Finding, IceReport
from peerpath.identity import PublicKey
from peerpath.plan import ConnectionPlan

_MAX_ATTEMPTS = 8
_MAX_STEPS = 200
_MAX_ROUTES = 16


class Said:
    """What has been told of one session, and need not be told of the next ones."""

    def __init__(self) -> None:
        self._essences: set[tuple[str, ...]] = set()

    def news(self, report: IceReport) -> list[Finding]:
        """What is in `report` and was in none before it."""
        news = [finding for finding in report.findings() if finding.essence not in self._essences]
        self._essences.update(finding.essence for finding in news)
        return news


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened in an attempt, `at` seconds after it began."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class RouteReport:
    """One ICE session of an attempt."""

    number: int
    at: float
    """Seconds after the attempt began."""
    reason: str
    """Why it was begun."""
    ice: IceReport


@dataclass(slots=True)
class AttemptReport:
    """One exchange of signaling and what came of it."""

    direction: str
    """"dialed" or "answered"."""
    began: float
    """On the event loop's clock."""
    plan: ConnectionPlan | None = None
    """What was worth trying, with chances, and why the rest was not; None before the peer has answered."""
    steps: list[Step] = field(default_factory=list)
    routes: list[RouteReport] = field(default_factory=list)
    result: str = ""
    """"connected" or what was in the way; empty while it is under way."""
    seconds: float | None = None
    """How long it took until the result was known."""
    update: Callable[[], None] | None = field(default=None, repr=False)
    """Brings `routes` up to date, while the attempt lives."""

    def note(self, text: str, now: float) -> None:
        if len(self.steps) < _MAX_STEPS:
            self.steps.append(Step(now - self.began, text))

    def end(self, result: str, now: float) -> None:
        """The first result counts."""
        if not self.result:
            self.result, self.seconds = result, now - self.began

    def keep(self, route: RouteReport) -> None:
        """The first routes and the last ones, where there are many."""
        self.routes = [known for known in self.routes if known.number != route.number]
        if len(self.routes) >= _MAX_ROUTES:
            del self.routes[_MAX_ROUTES // 2]
        self.routes.append(route)

    def failures(self, said: Said | None = None) -> list[ServerFailure]:
        """The steps, and what each route failed of that is not in `said` or was told of an earlier one."""
        said = Said() if said is None else said
        found = [finding.failure for route in self.routes for finding in said.news(route.ice)]
        steps = [ServerFailure("signaling", step.text, step.at) for step in self.steps]
        return steps + [failure for failure in found if failure is not None]

    def as_json(self) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "result": self.result,
            "seconds": self.seconds,
            "plan": None if self.plan is None else self.plan.as_json(),
            "steps": [{"at": round(step.at, 4), "text": step.text} for step in self.steps],
            "routes": [
                {
                    "number": route.number,
                    "at": round(route.at, 4),
                    "reason": route.reason,
                    "ice": route.ice.as_json(),
                }
                for route in self.routes
            ],
        }

    def __str__(self) -> str:
        return self.text(Said())

    def text(self, said: Said) -> str:
        """What is in `said` already is counted instead of told again."""
        took = "" if self.seconds is None else f" after {self.seconds:.3f} s"
        lines = [f"{self.direction}: {self.result or 'under way'}{took}"]
        lines += [f"  {step.at:8.3f} s  {step.text}" for step in self.steps]
        if self.plan is not None:
            lines += [
                f"  plan: {line}" if number == 0 else f"  {line}" for number, line in _numbered(self.plan)
            ]
        for route in self.routes:
            lines.append(f"  route {route.number} at {route.at:.3f} s, {route.reason}:")
            news = said.news(route.ice)
            lines += [f"    {route.ice.headline}", *(f"    {finding.text}" for finding in news)]
            if old := len(route.ice.findings()) - len(news):
                lines.append(f"      {old} more as told above")
        return "\n".join(lines)


def _numbered(plan: ConnectionPlan) -> list[tuple[int, str]]:
    return list(enumerate(str(plan).splitlines()))


class ConnectionReport:
    """The attempts of one connection, the last ones of many.

    It names addresses: show it to the user, keep it out of logs.
    """

    def __init__(self, peer: PublicKey | None = None) -> None:
        self.peer = peer
        self._attempts: deque[AttemptReport] = deque(maxlen=_MAX_ATTEMPTS)

    def begin(self, direction: str, now: float) -> AttemptReport:
        attempt = AttemptReport(direction, now)
        self._attempts.append(attempt)
        return attempt

    @property
    def attempts(self) -> Sequence[AttemptReport]:
        """The last ones, as they stand now."""
        for attempt in self._attempts:
            if attempt.update is not None:
                attempt.update()
        return tuple(self._attempts)

    def failures(self) -> list[ServerFailure]:
        """The short form, as in `TraversalError.report`: the same of several routes is told once."""
        said = Said()
        return [failure for attempt in self.attempts for failure in attempt.failures(said)]

    def as_json(self) -> dict[str, Any]:
        return {
            "peer": None if self.peer is None else str(self.peer),
            "attempts": [attempt.as_json() for attempt in self.attempts],
        }

    def __str__(self) -> str:
        said = Said()
        return "\n".join(attempt.text(said) for attempt in self.attempts)
