"""What the console shows of failures: counted by reason, in a window of time, each explained."""

import re
from importlib import resources

from stunwire import TransportAddress
from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.core.events import (
    AllocationRefused,
    AuthenticationFailed,
    AuthenticationFailure,
    PeerDenied,
    RefusalReason,
    Throttle,
    Throttled,
)
from turnrelay.core.protocols import DenyRule
from turnrelay.web.failures import WINDOW_SECONDS, RecentFailures

PATH = FiveTuple(
    Transport.UDP,
    ServerAddress(TransportAddress("192.0.2.1", 3478)),
    ClientAddress(TransportAddress("198.51.100.7", 40000)),
)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def every_failure():
    return [
        *(AuthenticationFailed(PATH, reason) for reason in AuthenticationFailure),
        *(AllocationRefused(PATH, "alice", 486, reason) for reason in RefusalReason),
        *(PeerDenied(PATH, "alice", rule, "0123456789ab") for rule in DenyRule),
        *(Throttled(PATH, throttle) for throttle in Throttle),
    ]


def test_failures_are_counted_by_reason_the_latest_first():
    clock = Clock()
    failures = RecentFailures(clock)
    for _ in range(3):
        failures.observe(PeerDenied(PATH, "alice", DenyRule.OPERATOR, "0123456789ab"))
    clock.now += 5
    failures.observe(AuthenticationFailed(PATH, AuthenticationFailure.WRONG_PASSWORD))
    assert failures.recent() == [
        {"kind": "authentication", "reason": "wrong_password", "count": 1, "last_at": clock.now},
        {"kind": "peer", "reason": "operator", "count": 3, "last_at": clock.now - 5},
    ]


def test_the_steps_of_every_session_are_no_failures():
    failures = RecentFailures(Clock())
    for reason in (AuthenticationFailure.NO_CREDENTIALS, AuthenticationFailure.STALE_NONCE):
        failures.observe(AuthenticationFailed(PATH, reason))
    assert failures.recent() == []


def test_what_is_old_is_forgotten():
    clock = Clock()
    failures = RecentFailures(clock)
    denied = PeerDenied(PATH, "alice", DenyRule.OPERATOR, "0123456789ab")
    failures.observe(denied)
    clock.now += WINDOW_SECONDS / 2
    failures.observe(denied)
    assert failures.recent()[0]["count"] == 2
    clock.now += WINDOW_SECONDS / 2 + 10
    assert failures.recent()[0]["count"] == 1
    clock.now += WINDOW_SECONDS
    assert failures.recent() == []


def test_every_reason_has_words_in_the_console_and_no_words_are_left_over():
    script = resources.files("turnrelay.web").joinpath("static/failures.js").read_text()
    explained = set(re.findall(r'^  "([a-z]+:[a-z_]+)": \[', script, re.MULTILINE))
    failures = RecentFailures(Clock())
    for event in every_failure():
        failures.observe(event)
    assert {f"{found['kind']}:{found['reason']}" for found in failures.recent()} == explained
