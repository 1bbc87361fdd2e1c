"""RecentFailures: what went wrong in the last minutes, by reason; nothing of who or where."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from turnrelay.core.events import (
    AllocationRefused,
    AuthenticationFailed,
    AuthenticationFailure,
    Event,
    PeerDenied,
    Throttled,
)

WINDOW_SECONDS = 600
_STEP_SECONDS = 10

_STEPS_OF_EVERY_SESSION = (AuthenticationFailure.NO_CREDENTIALS, AuthenticationFailure.STALE_NONCE)


@dataclass(slots=True)
class _Tally:
    last_at: float = 0.0
    steps: deque[tuple[int, int]] = field(default_factory=deque)
    """Number of the step of time, and failures in it."""


class RecentFailures:
    """Counts the core's failures of the last `WINDOW_SECONDS` by kind and reason.

    Kinds and reasons are the core's enums, so a flood of failures makes numbers grow and nothing else.
    """

    def __init__(self, unix_time: Callable[[], float]) -> None:
        self._unix_time = unix_time
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def observe(self, event: Event) -> None:
        """Counts an event of the core if it is a failure."""
        match event:
            case AuthenticationFailed(_, reason) if reason not in _STEPS_OF_EVERY_SESSION:
                self._count("authentication", reason.value)
            case AllocationRefused():
                self._count("allocation", event.reason.value)
            case PeerDenied():
                self._count("peer", event.rule.value)
            case Throttled(_, throttle):
                self._count("rate", throttle.value)

    def recent(self) -> list[dict[str, Any]]:
        """The latest first: kind, reason, count in the window and Unix time of the last."""
        oldest = (self._unix_time() - WINDOW_SECONDS) // _STEP_SECONDS
        found = []
        for (kind, reason), tally in self._tallies.items():
            count = sum(failures for step, failures in tally.steps if step > oldest)
            if count:
                found.append({"kind": kind, "reason": reason, "count": count, "last_at": tally.last_at})
        return sorted(found, key=lambda failure: failure["last_at"], reverse=True)

    def _count(self, kind: str, reason: str) -> None:
        tally = self._tallies.setdefault((kind, reason), _Tally())
        tally.last_at = now = self._unix_time()
        step = int(now // _STEP_SECONDS)
        failures = tally.steps.pop()[1] if tally.steps and tally.steps[-1][0] == step else 0
        tally.steps.append((step, failures + 1))
        while tally.steps[0][0] <= step - WINDOW_SECONDS // _STEP_SECONDS:
            tally.steps.popleft()
