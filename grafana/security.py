"""The dashboard Security: who is turned away, and why."""

from typing import Any

from panels import GOOD_WHEN_LOW, NEUTRAL, SELECT, dashboard, increase, lines, rate, stat

FAILURES = "turnrelay_authentication_failures_total"
SUSPICIOUS = 'reason=~"unknown_user|wrong_password|wrong_user|bid_down"'
USUAL = 'reason=~"no_credentials|stale_nonce|incomplete"'


def security() -> dict[str, Any]:
    return dashboard(
        "turnrelay-security",
        "turnrelay / Security",
        "Requests that were not accepted, peers that were denied and limits that were reached. Names and "
        "addresses are in no metric: the log has reasons, and at the level debug accounts and clients.",
        [
            stat(
                "Failed log-ins",
                "Unknown users, wrong passwords, other people's allocations, weakened requests.",
                increase(FAILURES, more=SUSPICIOUS),
                "short",
                NEUTRAL,
            ),
            stat(
                "Denied peers",
                "Peer addresses that a client asked for and may not reach.",
                increase("turnrelay_peers_denied_total"),
                "short",
                NEUTRAL,
            ),
            stat(
                "Refused allocations",
                "Allocate requests of known users that were refused.",
                increase("turnrelay_allocations_refused_total"),
                "short",
                NEUTRAL,
            ),
            stat(
                "Rate-limited",
                "Messages that a rate limit left without an answer.",
                increase("turnrelay_throttled_total"),
                "short",
                NEUTRAL,
            ),
            stat(
                "Rejected reports",
                "Traversal outcomes that were not counted.",
                increase("turnrelay_traversal_reports_total", more='result!="accepted"'),
                "short",
                NEUTRAL,
            ),
            stat(
                "Open files",
                "The fullest relay: descriptors in use, of those it may have.",
                f"max(process_open_fds{{{SELECT}}} / process_max_fds{{{SELECT}}})",
                "percentunit",
                GOOD_WHEN_LOW,
            ),
            lines(
                "Failed log-ins by reason",
                "A burst of unknown users or wrong passwords is somebody guessing, or a credential service "
                "that mints with another secret.",
                [(rate(FAILURES, "reason", SUSPICIOUS), "{{reason}}")],
                "cps",
            ),
            lines(
                "Steps of every session",
                "Requests without credentials or with an old nonce; many, and no sessions after: a scan.",
                [
                    (rate(FAILURES, "reason", USUAL), "{{reason}}"),
                    (rate("turnrelay_allocations_created_total"), "allocations created"),
                ],
                "cps",
            ),
            lines(
                "Denied peers by rule",
                "special_purpose: addresses that are not public; local_address and own_port: this "
                "machine; operator: --deny-peer.",
                [(rate("turnrelay_peers_denied_total", "rule"), "{{rule}}")],
                "cps",
            ),
            lines(
                "Refused allocations by reason",
                "Quotas and what else keeps a known user from an allocation.",
                [(rate("turnrelay_allocations_refused_total", "reason"), "{{reason}}")],
                "cps",
            ),
            lines(
                "Rate limits",
                "Messages without an answer, by limit.",
                [(rate("turnrelay_throttled_total", "limit"), "{{limit}}")],
                "cps",
            ),
            lines(
                "Discarded messages",
                "What is nothing to answer: garbage, broken streams, connections past the limit.",
                [(rate("turnrelay_discarded_messages_total", "reason"), "{{reason}}")],
                "cps",
            ),
            lines(
                "Errors answered",
                "Responses with an error code; 401 and 438 are steps of every session.",
                [(rate("turnrelay_requests_total", "result", 'result!="success"'), "{{result}}")],
                "reqps",
            ),
            lines(
                "Rendezvous",
                "Connections that were refused or ended, by reason, and messages that were not delivered.",
                [
                    (rate("turnrelay_rendezvous_refusals_total", "reason"), "refused: {{reason}}"),
                    (
                        rate("turnrelay_rendezvous_messages_total", "result", 'result!="delivered"'),
                        "message: {{result}}",
                    ),
                ],
                "cps",
            ),
            lines(
                "Reports of outcomes",
                "What became of them: many duplicate or unauthorized ones are somebody making figures up.",
                [(rate("turnrelay_traversal_reports_total", "result"), "{{result}}")],
                "cps",
            ),
        ],
    )
