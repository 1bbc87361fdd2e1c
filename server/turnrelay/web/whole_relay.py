"""WholeRelay: the desks of all processes of a relay as one."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from turnrelay.web.desk import Desk

AskOthers = Callable[[str, Any], Awaitable[Sequence[Any]]]
"""Question and argument to the answers of the other processes, less those that do not answer in time."""


class SessionPage(NamedTuple):
    sessions: list[dict[str, Any]]
    """The oldest first."""
    total: int
    next: float | None
    """What to give as `after` for the next page, None at the end."""


class WholeRelay:
    """Asks the desk of this process and those of the others."""

    def __init__(self, own: Desk, ask_others: AskOthers) -> None:
        self._own = own
        self._ask_others = ask_others

    async def sessions(self, limit: int, after: float | None) -> SessionPage:
        """The sessions created later than `after`; times are of the system's clock, one for all processes."""
        # One more than the page holds tells whether there is another.
        answers = await self._ask("sessions", {"limit": limit + 1, "after": after})
        found = sorted((entry for answer in answers for entry in answer["page"]), key=lambda entry: entry[0])
        page = found[:limit]
        return SessionPage(
            [facts for _, facts in page],
            sum(answer["total"] for answer in answers),
            page[-1][0] if len(found) > limit else None,
        )

    async def session(self, allocation_id: str) -> dict[str, Any] | None:
        """One session, None if there is none of that id."""
        found = [answer for answer in await self._ask("session", allocation_id) if answer is not None]
        return found[0] if found else None

    async def end(self, allocation_id: str) -> bool:
        """Ends a session; False if there is none of that id."""
        return any(await self._ask("end", allocation_id))

    async def figures(self) -> dict[str, Any]:
        """As those of a desk, added up."""
        answers = await self._ask("figures", None)
        sessions: Counter[str] = Counter()
        traffic: Counter[str] = Counter()
        for answer in answers:
            sessions.update(answer["sessions"])
            traffic.update(answer["traffic"])
        return {
            "sessions": dict(sessions),
            "traffic": dict(traffic),
            "ports_in_use": sum(answer["ports_in_use"] for answer in answers),
            "failures": _merged([failure for answer in answers for failure in answer["failures"]]),
        }

    async def _ask(self, question: str, argument: Any) -> list[Any]:
        return [self._own.answer(question, argument), *await self._ask_others(question, argument)]


def _merged(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each kind and reason, the latest first."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for failure in failures:
        known = merged.setdefault((failure["kind"], failure["reason"]), {**failure, "count": 0})
        known["count"] += failure["count"]
        known["last_at"] = max(known["last_at"], failure["last_at"])
    return sorted(merged.values(), key=lambda failure: failure["last_at"], reverse=True)
