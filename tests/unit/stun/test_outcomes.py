"""The record of a traversal's outcome: it goes round, and nothing else gets in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.nat.behaviour import NatType
from stunwire import (
    MAX_DURATION_MS,
    MAX_OUTCOME_SIZE,
    NAT_PAIRS,
    DecodeError,
    MethodAttempt,
    NatClass,
    Outcome,
    PathFamily,
    TraversalMethod,
    TraversalOutcome,
    nat_pair,
)

CONNECTED = TraversalOutcome(
    Outcome.CONNECTED,
    TraversalMethod.SRFLX,
    PathFamily.IPV4,
    duration_ms=840,
    nat=NatClass.SYMMETRIC,
    peer_nat=NatClass.OPEN,
    attempts=(
        MethodAttempt(TraversalMethod.HOST, Outcome.FAILED),
        MethodAttempt(TraversalMethod.SRFLX, Outcome.FAILED, PathFamily.IPV6),
        MethodAttempt(TraversalMethod.SRFLX, Outcome.CONNECTED, PathFamily.IPV4),
        MethodAttempt(TraversalMethod.RELAY_TLS, Outcome.CANCELLED),
    ),
)
FAILED = TraversalOutcome(Outcome.FAILED, TraversalMethod.NONE, PathFamily.NONE, duration_ms=15000)
METHODS = [method for method in TraversalMethod if method is not TraversalMethod.NONE]


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(CONNECTED.as_json()), **fields})


def attempt(**fields: str) -> dict[str, str]:
    return {"method": "host", "outcome": "failed", "family": "none", **fields}


def test_the_longest_record_is_within_the_size():
    tried = [MethodAttempt(method, Outcome.CONNECTED, family) for method in METHODS for family in PathFamily]
    longest = TraversalOutcome(
        Outcome.CONNECTED,
        TraversalMethod.PREDICTED,
        PathFamily.IPV4,
        MAX_DURATION_MS,
        NatClass.RESTRICTED,
        NatClass.RESTRICTED,
        tuple(tried),
    )
    assert TraversalOutcome.from_json(longest.as_json()) == longest


def test_the_json_form_is_this():
    assert json.loads(CONNECTED.as_json()) == {
        "version": 1,
        "outcome": "connected",
        "method": "srflx",
        "family": "ipv4",
        "duration_ms": 840,
        "nat": "symmetric",
        "peer_nat": "open",
        "attempts": [
            {"method": "host", "outcome": "failed", "family": "none"},
            {"method": "srflx", "outcome": "failed", "family": "ipv6"},
            {"method": "srflx", "outcome": "connected", "family": "ipv4"},
            {"method": "relay_tls", "outcome": "cancelled", "family": "none"},
        ],
    }


@given(st.data())
def test_every_record_goes_round(data):
    tries = st.tuples(st.sampled_from(METHODS), st.sampled_from(PathFamily))
    tried = data.draw(st.lists(tries, unique=True))
    attempts = tuple(
        MethodAttempt(method, data.draw(st.sampled_from(Outcome)), family) for method, family in tried
    )
    connected = [a.method for a in attempts if a.outcome is Outcome.CONNECTED]
    if connected:
        path = Outcome.CONNECTED, connected[0], data.draw(st.sampled_from(PathFamily))
    else:
        path = (
            data.draw(st.sampled_from([Outcome.FAILED, Outcome.CANCELLED])),
            TraversalMethod.NONE,
            PathFamily.NONE,
        )
    record = TraversalOutcome(
        *path,
        duration_ms=data.draw(st.integers(0, MAX_DURATION_MS)),
        nat=data.draw(st.sampled_from(NatClass)),
        peer_nat=data.draw(st.sampled_from(NatClass)),
        attempts=attempts,
    )
    text = record.as_json()
    assert len(text) < MAX_OUTCOME_SIZE
    assert TraversalOutcome.from_json(text) == TraversalOutcome.from_json(text.encode()) == record


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "record"),
        ("[]", "record"),
        ("[" * 2000, "record"),
        (b"\xff{}", "record"),
        (" " * MAX_OUTCOME_SIZE + "{}", "record"),
        ('{"version":1,"version":1}', "record"),
        (changed(address="192.0.2.1"), "record"),
        ("{}", "attempts"),
        (changed(version=2), "version"),
        (changed(version=True), "version"),
        (changed(outcome="won"), "outcome"),
        (changed(outcome=["connected"]), "outcome"),
        (changed(outcome="failed"), "method"),
        (changed(method="none"), "method"),
        (changed(method="SRFLX"), "method"),
        (changed(outcome="failed", method="none"), "family"),
        (changed(family="ipv5"), "family"),
        (changed(nat="full_cone"), "nat"),
        (changed(peer_nat=None), "peer_nat"),
        (changed(duration_ms=-1), "duration_ms"),
        (changed(duration_ms=MAX_DURATION_MS + 1), "duration_ms"),
        (changed(duration_ms=1.5), "duration_ms"),
        (changed(duration_ms=True), "duration_ms"),
        (changed(attempts=[]), "attempts"),
        (changed(attempts="host"), "attempts"),
        (changed(attempts=["host"]), "attempts"),
        (changed(attempts=[{"method": "host", "family": "none"}]), "outcome"),
        (
            changed(attempts=[{"method": "host", "outcome": "failed", "family": "none", "why": "x"}]),
            "attempts",
        ),
        (changed(attempts=[attempt(method="none")]), "attempts"),
        (changed(attempts=[attempt(method="luck")]), "attempts.method"),
        (changed(attempts=[attempt(outcome="so-so")]), "attempts.outcome"),
        (changed(attempts=[attempt(family="ipv5")]), "attempts.family"),
        (changed(attempts=[attempt(method="srflx", outcome="connected")] * 2), "attempts"),
    ],
)
def test_anything_else_is_refused_by_the_name_of_the_field(text, place):
    with pytest.raises(DecodeError) as refused:
        TraversalOutcome.from_json(text)
    assert refused.value.place == place


def test_what_is_refused_is_not_quoted():
    with pytest.raises(DecodeError) as refused:
        TraversalOutcome.from_json(changed(method="192.0.2.1"))
    assert "192.0.2.1" not in str(refused.value)


def test_a_record_that_contradicts_itself_cannot_be_made():
    with pytest.raises(ValueError, match="method: must be none"):
        TraversalOutcome(Outcome.CONNECTED, TraversalMethod.NONE, PathFamily.NONE, duration_ms=1)


def test_every_nat_type_of_the_sdk_has_a_class():
    classes = {nat_type: NatClass.of_nat_type(nat_type.value) for nat_type in NatType}
    assert set(classes.values()) == set(NatClass)
    with pytest.raises(ValueError, match="'cone' is no NAT type: use one of open_internet"):
        NatClass.of_nat_type("cone")


def test_pairs_of_nats_are_unordered():
    assert len(set(NAT_PAIRS)) == 15
    for one in NatClass:
        for other in NatClass:
            assert nat_pair(one, other) == nat_pair(other, one)
            assert nat_pair(one, other) in NAT_PAIRS
    assert CONNECTED.nat_pair == "open-symmetric"
    assert FAILED.nat_pair == "unknown-unknown"
