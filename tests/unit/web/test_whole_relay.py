"""The desks of several processes as one relay."""

from typing import Any

import pytest
from turnrelay.web.whole_relay import WholeRelay


class Process:
    """Answers as a desk with these sessions does: pairs of time of creation and id."""

    def __init__(self, *sessions: tuple[float, str], failures: list[dict[str, Any]] | None = None) -> None:
        self.live = list(sessions)
        self.failures = failures or []

    def answer(self, question: str, argument: Any) -> Any:
        match question:
            case "sessions":
                after = argument["after"]
                later = [[at, {"id": name}] for at, name in self.live if after is None or at > after]
                return {"page": later[: argument["limit"]], "total": len(self.live)}
            case "session":
                return next(({"id": name} for _, name in self.live if name == argument), None)
            case "end":
                before = len(self.live)
                self.live = [(at, name) for at, name in self.live if name != argument]
                return len(self.live) < before
        return {
            "sessions": {"udp": len(self.live), "tcp": 0},
            "traffic": {"bytes_to_peer": 10 * len(self.live)},
            "ports_in_use": len(self.live),
            "failures": self.failures,
        }


def whole(own: Process, *others: Process) -> WholeRelay:
    async def ask_others(question: str, argument: Any) -> list[Any]:
        return [other.answer(question, argument) for other in others]

    return WholeRelay(own, ask_others)  # type: ignore[arg-type]  # a desk answers, and that is all


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
async def test_pages_go_through_all_processes_in_the_order_of_creation(limit):
    relay = whole(Process(), Process((1, "a"), (4, "d")), Process((2, "b"), (3, "c"), (5, "e")))
    seen, after = [], None
    for _ in range(10):
        page = await relay.sessions(limit, after)
        assert page.total == 5
        assert len(page.sessions) <= limit
        seen += [session["id"] for session in page.sessions]
        after = page.next
        if after is None:
            break
    assert seen == ["a", "b", "c", "d", "e"]


async def test_a_session_is_found_and_ended_wherever_it_is():
    relay = whole(Process((1, "a")), Process((2, "b")))
    assert await relay.session("b") == {"id": "b"}
    assert await relay.end("b") is True
    assert await relay.end("b") is False
    assert await relay.session("b") is None
    assert await relay.session("a") == {"id": "a"}


async def test_figures_are_added_up_and_failures_merged_by_reason():
    def failure(reason: str, count: int, last_at: float) -> dict[str, Any]:
        return {"kind": "peer", "reason": reason, "count": count, "last_at": last_at}

    relay = whole(
        Process((1, "a"), failures=[failure("operator", 2, 50.0)]),
        Process((2, "b"), (3, "c"), failures=[failure("own_port", 1, 60.0), failure("operator", 3, 70.0)]),
    )
    assert await relay.figures() == {
        "sessions": {"udp": 3, "tcp": 0},
        "traffic": {"bytes_to_peer": 30},
        "ports_in_use": 3,
        "failures": [failure("operator", 5, 70.0), failure("own_port", 1, 60.0)],
    }
