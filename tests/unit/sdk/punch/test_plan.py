"""Plans: what the peer says is read with care, and both sides choose what fits together."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.nat.behaviour import Dependence
from peerpath.punch.plan import PlanError, PunchPlan
from peerpath.punch.tactics import NoTactic, Part, Tactic, choose_tactic

EASY = PunchPlan("5.5.5.5", Dependence.ENDPOINT_INDEPENDENT, port=4000, round_trip=0.04)
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT
COUNTING = PunchPlan("6.6.6.6", APD, ports=(5000, 5001, 5002, 5003, 5004, 5005), round_trip=0.06)
BLOCK = PunchPlan("6.6.6.7", APD, ports=(5000, 5300, 5100, 5200, 5050, 5400))
DOWNWARD = PunchPlan("6.6.6.9", APD, ports=(5010, 5008, 5006, 5004, 5002), round_trip=0.08)
RANDOM = PunchPlan("6.6.6.8", APD, ports=(5000, 35300, 15100, 62000, 1050, 23456))
OFFLINE = PunchPlan(None, Dependence.UNKNOWN, reason="no STUN server answered")
PLANS = (EASY, COUNTING, DOWNWARD, BLOCK, RANDOM, OFFLINE)


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_comes_through_signaling_as_it_was(plan: PunchPlan) -> None:
    assert PunchPlan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("version", 2),
        ("host", "evil.example"),
        ("host", 7),
        ("host", "5.5.5.5; rm"),
        ("mapping", "symmetric"),
        ("mapping", None),
        ("port", 0),
        ("port", 65536),
        ("port", "80"),
        ("port", True),
        ("ports", [0]),
        ("ports", list(range(1, 60))),
        ("ports", {"a": 1}),
        ("ports", [1.5]),
        ("sockets", 10**9),
        ("sockets", None),
        ("probes", -1),
        ("rate", 0),
        ("rate", float("nan")),
        ("rate", 1e9),
        ("roundTrip", -1),
        ("roundTrip", float("inf")),
    ],
)
def test_what_is_no_plan_is_refused_by_its_part(part: str, value: object) -> None:
    with pytest.raises(PlanError, match=part):
        PunchPlan.from_json({**EASY.as_json(), part: value})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(EASY.as_json())), inner),
    )
)
def test_any_document_is_a_plan_or_a_plan_error(document: object) -> None:
    try:
        PunchPlan.from_json(document)
    except PlanError:
        return


@pytest.mark.parametrize(("ours", "theirs"), list(product(PLANS, PLANS)))
def test_both_sides_come_to_matching_results(ours: PunchPlan, theirs: PunchPlan) -> None:
    here, there = choose_tactic(ours, theirs), choose_tactic(theirs, ours)
    assert isinstance(here, Tactic) is isinstance(there, Tactic)
    if isinstance(here, Tactic) and isinstance(there, Tactic):
        if here.part is Part.MEET:
            assert there.part is Part.MEET
            assert bool(here.per_shift) is not bool(there.per_shift)
            assert (here.pattern, there.pattern) == (theirs.pattern, ours.pattern)
        else:
            assert {here.part, there.part} == {Part.OPEN, Part.GUESS}
            assert here.pattern == there.pattern
        assert (here.sockets, here.probes) == (there.sockets, there.probes)
        assert here.chance == there.chance > 0.95


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (EASY, EASY, "plain checks connect"),
        (RANDOM, RANDOM, "both NATs"),
        (COUNTING, RANDOM, "both NATs"),
        (COUNTING, BLOCK, "both NATs"),
        (COUNTING, COUNTING, "both NATs"),  # the same one, whose ports both would take in turns
        (EASY, OFFLINE, "the peer can't: no STUN server answered"),
        (OFFLINE, EASY, "this side can't"),
        (EASY, PunchPlan("6.6.6.6", Dependence.UNKNOWN, ports=(5000,)), "servers at two addresses"),
    ],
)
def test_what_is_not_attempted_has_its_reason(ours: PunchPlan, theirs: PunchPlan, words: str) -> None:
    decision = choose_tactic(ours, theirs)
    assert isinstance(decision, NoTactic)
    assert words in decision.reason


def test_narrow_patterns_take_fewer_sockets_and_guesses() -> None:
    def cost(hard: PunchPlan) -> tuple[int, int]:
        tactic = choose_tactic(EASY, hard)
        assert isinstance(tactic, Tactic)
        return tactic.sockets, tactic.probes

    assert cost(COUNTING) == (16, 640)
    assert cost(BLOCK) == (64, 1024)
    assert cost(RANDOM) == (256, 2048)
