"""What peers tell each other is read strictly: a hostile peer gets a BodyError, and nothing else happens."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.calls.bodies import (
    MAX_CANDIDATES,
    MAX_REASON,
    MAX_ROUTES,
    BodyError,
    CandidatesBody,
    RouteBody,
    reason_of,
    session_of,
)
from peerpath.nat.behaviour import NatType

HOST = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host"
SRFLX = "candidate:2 1 udp 1694498815 203.0.113.9 40000 typ srflx raddr 192.0.2.1 rport 5000"
GOOD = {
    "route": 3,
    "ufrag": "abcdefgh",
    "password": "a" * 24,
    "options": ["ice2", "trickle"],
    "candidates": [HOST, SRFLX],
    "complete": True,
    "nat": "symmetric",
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
lines = st.text(max_size=60) | st.lists(
    st.sampled_from([*HOST.split(), "typ", "raddr", "::1", "fe80::1%1", "99999", "-1", "²", "x.local"]),
    max_size=14,
).map(" ".join)


def test_a_route_goes_round():
    body = RouteBody.from_json(GOOD)
    assert body.route == 3
    assert body.nat is NatType.SYMMETRIC
    assert body.description.end_of_candidates
    assert [str(candidate.address.host) for candidate in body.description.candidates] == [
        "192.0.2.1",
        "203.0.113.9",
    ]
    assert RouteBody.from_json(json.loads(json.dumps(body.as_json()))) == body
    candidates = CandidatesBody(3, body.description.candidates, True)
    assert CandidatesBody.from_json(json.loads(json.dumps(candidates.as_json()))) == candidates


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("route", [None, "0", 1.0, True, -1, MAX_ROUTES, [0]]),
        ("ufrag", [None, 7, "", "abc", "a" * 257, "abcd efgh", "abcdefg\n", "äöüß"]),
        ("password", [None, 7, "", "a" * 21, "a" * 257, "a" * 23 + "\0"]),
        ("options", ["ice2", {"ice2": 1}, [1], [None], None]),
        ("candidates", [HOST, {"0": HOST}, [HOST] * (MAX_CANDIDATES + 1), None, ["nonsense"], [7], [[HOST]]]),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_refused(field, values):
    for value in values:
        with pytest.raises(BodyError):
            RouteBody.from_json({**GOOD, field: value})


@pytest.mark.parametrize("field", ["route", "ufrag", "password"])
def test_a_field_that_is_missing_is_refused(field):
    with pytest.raises(BodyError, match=field):
        RouteBody.from_json({name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize("nat", [None, 7, [], {}, "unheard-of"])
def test_a_class_of_nat_that_is_not_known_is_unknown(nat):
    assert RouteBody.from_json({**GOOD, "nat": nat}).nat is NatType.UNKNOWN


def test_only_true_is_true():
    for value in (1, "true", [True], None):
        assert not RouteBody.from_json({**GOOD, "complete": value}).description.end_of_candidates


@given(st.dictionaries(st.sampled_from(list(GOOD)), anything), st.lists(lines, max_size=4))
def test_nothing_that_is_json_does_more_than_a_body_error(changes, candidates):
    for body in (
        {**GOOD, **changes},
        {**GOOD, "candidates": candidates},
        {**GOOD, **changes, "candidates": []},
    ):
        for read in (RouteBody.from_json, CandidatesBody.from_json, session_of):
            with contextlib.suppress(BodyError):
                read(body)
        reason_of(body, "none")


@pytest.mark.parametrize(
    "session", [None, 7, "", "00" * 15, "00" * 17, "zz" * 16, "00 " * 16, "0x" + "00" * 15]
)
def test_a_session_is_16_bytes_in_hexadecimal(session):
    with pytest.raises(BodyError, match="session"):
        session_of({"session": session})
    assert session_of({"session": "0f" * 16}) == b"\x0f" * 16


def test_a_reason_is_short_and_cannot_write_to_a_terminal():
    assert reason_of({"reason": "no\x1b[2J\nway\x07"}, "") == "no[2Jway"
    assert len(reason_of({"reason": "x" * 10_000}, "")) == MAX_REASON
    assert reason_of({"reason": ["no"]}, "none given") == "none given"
    assert reason_of({"reason": "\x00\x01"}, "none given") == "none given"
