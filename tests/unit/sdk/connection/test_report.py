"""A report of several routes tells each thing once, and what is new in each."""

from peerpath.connection.report import AttemptReport, RouteReport
from peerpath.ice.report import FallbackEntry, IceReport, PairEntry, ServerEntry

FALLBACK = FallbackEntry("proxy", False, "no proxy is configured")


def server(name: str, reason: str, port: int) -> ServerEntry:
    return ServerEntry(name, "relayed address", "udp", f"192.0.2.1:{port}", "", reason, 0.5)


def pair(local_port: int, reason: str) -> PairEntry:
    ends = (f"192.0.2.1:{local_port}", "host", f"198.51.100.9:{local_port}", "srflx")
    return PairEntry(*ends, "failed", False, False, 7, 0, None, 0.1, 0.2, None, reason)


def attempt(*routes: IceReport) -> AttemptReport:
    made = AttemptReport("dialed", 0.0)
    for number, ice in enumerate(routes):
        made.keep(RouteReport(number, 5.0 * number, "no path", ice))
    return made


def route(port: int, *servers: ServerEntry, pairs: tuple[PairEntry, ...] = ()) -> IceReport:
    return IceReport("failed", "no pair of candidates works", 5.0, servers, (), pairs, None, (FALLBACK,))


def test_other_ports_and_times_are_nothing_new() -> None:
    report = attempt(
        *(
            route(port, server("turn:a", "401 Unauthenticated", port), pairs=(pair(port, "no answer"),))
            for port in (1000, 2000, 3000)
        )
    )
    assert [(entry.server, entry.reason) for entry in report.failures()] == [
        ("turn:a (relayed address)", "401 Unauthenticated"),
        ("host 192.0.2.1:1000 to srflx 198.51.100.9:1000", "no answer"),
        ("fallback proxy", "not tried: no proxy is configured"),
    ]
    text = str(report)
    assert text.count("401 Unauthenticated") == text.count("no proxy is configured") == 1
    assert text.count("failed after 5.00 s: no pair of candidates works") == 3
    assert text.count("3 more as told above") == 2


def test_another_reason_or_server_is_told_of_the_later_route_too() -> None:
    report = attempt(
        route(1, server("turn:a:3478", "no answer", 1)),
        route(2, server("turn:a:3478", "508 Insufficient Capacity", 2)),
        route(3, server("turn:a:3479", "no answer", 3)),
    )
    told = [(entry.server, entry.reason) for entry in report.failures() if "turn:" in entry.server]
    assert told == [
        ("turn:a:3478 (relayed address)", "no answer"),
        ("turn:a:3478 (relayed address)", "508 Insufficient Capacity"),
        ("turn:a:3479 (relayed address)", "no answer"),
    ]


def test_what_one_route_has_twice_is_told_twice() -> None:
    report = attempt(route(1, pairs=(pair(1, "no answer"), pair(2, "no answer"))))
    assert len([entry for entry in report.failures() if entry.reason == "no answer"]) == 2
