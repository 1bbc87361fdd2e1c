"""The dashboard Traversal: do people reach each other, how, and how soon."""

from typing import Any

from panels import (
    GOOD_WHEN_HIGH,
    NEUTRAL,
    bars,
    dashboard,
    increase,
    join,
    lines,
    matrix,
    quantile,
    rate,
    stat,
)

SESSIONS = "turnrelay_traversal_sessions_total"
METHODS = "turnrelay_traversal_method_outcomes_total"
PAIRS = "turnrelay_traversal_nat_pairs_total"
DURATION = "turnrelay_traversal_duration_seconds"
REPORTS = "turnrelay_traversal_reports_total"
ISSUED = "turnrelay_credentials_issued_total"
CONNECTED = 'outcome="connected"'
DECIDED = 'outcome=~"connected|failed"'
DIRECT = 'outcome="connected",method=~"host|srflx|prflx|portmap|predicted|tcp"'


def _by_classes(more: str) -> str:
    """The attempts with a label for each class of the pair."""
    split = f"increase({PAIRS}{{{join(more)}}}[$__range])"
    for label, number in (("one", 1), ("other", 2)):
        split = f'label_replace({split}, "{label}", "${number}", "pair", "(.+)-(.+)")'
    return f"sum by (one, other) ({split})"


def traversal() -> dict[str, Any]:
    return dashboard(
        "turnrelay-traversal",
        "turnrelay / Traversal",
        "How attempts to reach a peer end, as SDKs report them. Who could not reach anything cannot report "
        "either: look at the coverage first.",
        [
            stat(
                "Success rate",
                "Attempts that connected, of those that connected or failed; cancelled ones are left out.",
                f"{increase(SESSIONS, more=CONNECTED)} / {increase(SESSIONS, more=DECIDED)}",
                "percentunit",
                GOOD_WHEN_HIGH,
            ),
            stat(
                "Direct rate",
                "Connections without a relay, of all connections.",
                f"{increase(SESSIONS, more=DIRECT)} / {increase(SESSIONS, more=CONNECTED)}",
                "percentunit",
                NEUTRAL,
            ),
            stat(
                "Coverage",
                "Outcomes reported, of credentials handed out. Where it falls, the success rate means less.",
                f"""{increase(REPORTS, more='result="accepted"')} / {increase(ISSUED)}""",
                "percentunit",
                NEUTRAL,
            ),
            stat("Attempts", "Outcomes that were reported.", increase(SESSIONS), "short", NEUTRAL),
            stat(
                "Set-up time, median",
                "From the call to the path, for attempts that connected.",
                f"histogram_quantile(0.5, {increase(f'{DURATION}_bucket', 'le')})",
                "s",
                [("green", None), ("yellow", 2), ("red", 5)],
            ),
            stat(
                "Set-up time, 95 %",
                "All but the slowest twentieth of the connections were there within this time.",
                f"histogram_quantile(0.95, {increase(f'{DURATION}_bucket', 'le')})",
                "s",
                [("green", None), ("yellow", 5), ("red", 10)],
            ),
            lines(
                "Success and direct rate",
                "The two rates over time.",
                [
                    (f"{rate(SESSIONS, more=CONNECTED)} / {rate(SESSIONS, more=DECIDED)}", "success"),
                    (f"{rate(SESSIONS, more=DIRECT)} / {rate(SESSIONS, more=CONNECTED)}", "direct"),
                ],
                "percentunit",
            ),
            lines(
                "Paths by method",
                "How the connections were made, each second.",
                [(rate(SESSIONS, "method", CONNECTED), "{{method}}")],
                "cps",
                stacked=True,
            ),
            matrix(
                "Success by pair of NATs",
                "Both ends' NAT classes, in either order. open: anybody gets in; restricted: only who was "
                "sent to; symmetric: a mapping for each peer; blocked: no UDP.",
                f"{_by_classes(CONNECTED)} / {_by_classes(DECIDED)}",
                "one",
                "other",
                "percentunit",
            ),
            bars(
                "Attempts by pair of NATs",
                "How many attempts stand behind each field of the heat map.",
                increase(PAIRS, "pair"),
                "{{pair}}",
                "short",
                NEUTRAL,
            ),
            bars(
                "Success of each method tried",
                "Of the times that a method was tried to its end. Where a relay helps out, others may fail.",
                f"{increase(METHODS, 'method', CONNECTED)} / {increase(METHODS, 'method', DECIDED)}",
                "{{method}}",
                "percentunit",
                GOOD_WHEN_HIGH,
            ),
            bars(
                "Success of IPv4 and IPv6 methods",
                "Of the times that a method was tried to its end; none: the families were not told apart.",
                f"{increase(METHODS, 'family', CONNECTED)} / {increase(METHODS, 'family', DECIDED)}",
                "{{family}}",
                "percentunit",
                GOOD_WHEN_HIGH,
            ),
            lines(
                "Set-up time",
                "From the call to the path, for attempts that connected.",
                [(quantile(0.5, DURATION), "50 %"), (quantile(0.95, DURATION), "95 %")],
                "s",
            ),
            lines(
                "Set-up time by method, 95 %",
                "A method that comes late is tried late: compare with the order in which the SDK tries them.",
                [(quantile(0.95, DURATION, "method"), "{{method}}")],
                "s",
            ),
            lines(
                "Attempts by outcome",
                "Each second.",
                [(rate(SESSIONS, "outcome"), "{{outcome}}")],
                "cps",
                stacked=True,
            ),
            lines(
                "Credentials and reports",
                "What is handed out, and what comes back.",
                [(rate(ISSUED), "credentials"), (rate(REPORTS, "result"), "{{result}}")],
                "cps",
            ),
        ],
    )
