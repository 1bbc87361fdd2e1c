"""What this side knows of why there is no path, in one line for the person who called."""

from __future__ import annotations

from collections.abc import Iterable

from peerpath.connection.report import AttemptReport
from peerpath.ice.report import ServerEntry
from peerpath.ice.servers import SKIPPED, Inquiry
from peerpath.plan import ConnectionPlan, Strategy

_RELAYS = (Inquiry.ALLOCATION.value, Inquiry.TCP_ALLOCATION.value)


def known_cause(attempt: AttemptReport) -> str:
    """Why no relay could help, and nothing else either; empty where the peer has not even answered."""
    if attempt.update is not None:
        attempt.update()
    if attempt.plan is None:
        return ""
    return "; ".join(filter(None, [_of_plan(attempt.plan), _of_relays(attempt)]))


def _of_plan(plan: ConnectionPlan) -> str:
    if any(not step.strategy.is_direct for step in plan.steps):
        return ""
    reasons = {out.strategy: out.reason for out in plan.left_out}
    wanted = [Strategy.RELAY] if plan.includes(Strategy.ICE) else [Strategy.ICE, Strategy.RELAY]
    return "; ".join(dict.fromkeys(reasons[strategy] for strategy in wanted))


def _of_relays(attempt: AttemptReport) -> str:
    """The same answer of several servers is told once."""
    asked = [entry for route in attempt.routes for entry in route.ice.servers if _is_relay(entry)]
    if any(entry.result for entry in asked):
        return ""
    servers: dict[str, dict[str, None]] = {}
    for entry in asked:
        reason = entry.reason if entry.seconds is not None else "no answer"
        servers.setdefault(reason, {})[entry.server] = None
    return "; ".join(f"{_listed(names)}: {reason}" for reason, names in servers.items())


def _is_relay(entry: ServerEntry) -> bool:
    return entry.inquiry in _RELAYS and not entry.reason.startswith(SKIPPED)


def _listed(names: Iterable[str]) -> str:
    first, *others = names
    if not others:
        return first
    return f"{first} and {len(others)} other server{'s' if len(others) > 1 else ''}"
