"""The line that tells why there is no path, from what was found out."""

from peerpath.calls.causes import known_cause
from peerpath.connection.report import AttemptReport, RouteReport
from peerpath.ice.report import IceReport, ServerEntry
from peerpath.plan import ConnectionPlan, Policy, Side, make_plan

PLAN = make_plan(Side(), Side(), Policy(has_turn=True))


def asked(
    server: str, reason: str, *, inquiry: str = "relayed address", answered: bool = True
) -> ServerEntry:
    result = "" if reason else "192.0.2.1:5"
    return ServerEntry(server, inquiry, "udp", "10.0.0.1:4", result, reason, 0.1 if answered else None)


def attempt(*entries: ServerEntry, plan: ConnectionPlan | None = PLAN) -> AttemptReport:
    report = AttemptReport("dialed", 0.0, plan)
    report.keep(RouteReport(0, 0.0, "the first one", IceReport("failed", "", 1.0, entries, (), ())))
    report.keep(RouteReport(1, 1.0, "another one", IceReport("failed", "", 1.0, entries, (), ())))
    return report


def test_what_all_relays_answered_is_told_once_with_the_first_of_them() -> None:
    refusals = [asked(f"turn:{host}", "401 Unauthenticated") for host in "abcd"]
    assert known_cause(attempt(*refusals)) == "turn:a and 3 other servers: 401 Unauthenticated"
    others = asked("turns:e", "the proxy answers junk"), asked("turn:f", "no answer yet", answered=False)
    assert known_cause(attempt(refusals[0], *others)) == (
        "turn:a: 401 Unauthenticated; turns:e: the proxy answers junk; turn:f: no answer"
    )


def test_where_one_relay_helps_the_others_are_no_cause() -> None:
    assert known_cause(attempt(asked("turn:a", "401 Unauthenticated"), asked("turn:b", ""))) == ""


def test_what_was_not_tried_and_who_was_asked_for_something_else_is_no_cause() -> None:
    skipped = asked("wss://a", "not tried: turn gave a relayed address first")
    assert (
        known_cause(attempt(skipped, asked("stun:b", "no answer", inquiry="server-reflexive address"))) == ""
    )


def test_without_any_relay_the_settings_are_the_cause() -> None:
    assert known_cause(attempt(plan=make_plan(Side(), Side(), Policy()))) == "no TURN server is configured"
    hidden = known_cause(attempt(plan=make_plan(Side(), Side(), Policy(relay_only=True))))
    assert hidden.startswith("relay_only is set: ")
    assert hidden.endswith("; no TURN server is configured")


def test_a_peer_that_has_not_answered_is_the_cause_itself() -> None:
    assert known_cause(attempt(asked("turn:a", "401 Unauthenticated"), plan=None)) == ""
