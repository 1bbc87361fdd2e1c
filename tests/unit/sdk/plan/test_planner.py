"""The planner: every strategy is either in the plan, with a stage and a chance, or left out with a reason."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.nat import NatBehaviour, NatType
from peerpath.nat.behaviour import Dependence, PortAssignment
from peerpath.nat.compatibility import typical
from peerpath.plan import ConnectionPlan, Policy, Side, Strategy, make_plan
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.settings import Fallback, Settings

APD, EI = Dependence.ADDRESS_AND_PORT_DEPENDENT, Dependence.ENDPOINT_INDEPENDENT
EVERYTHING = Policy(has_turn=True, has_tunnel=True, has_proxy=True, has_onion=True)
EASY = Side(typical(NatType.PORT_RESTRICTED))
SYMMETRIC = Side(typical(NatType.SYMMETRIC))
COUNTING = Side(replace(typical(NatType.SYMMETRIC), port_assignment=PortAssignment.SEQUENTIAL))
BLOCKED = Side(NatBehaviour(udp_blocked=True))
OPEN = Side(typical(NatType.OPEN_INTERNET))
UNKNOWN = Side()

EASY_PLAN = PunchPlan("5.5.5.5", EI, port=4000)
COUNTING_PLAN = PunchPlan("6.6.6.6", APD, ports=(5000, 5001, 5002, 5003, 5004, 5005))
RANDOM_PLAN = PunchPlan("6.6.6.8", APD, ports=(5000, 35300, 15100, 62000, 1050, 23456))


def stage_of(plan: ConnectionPlan, strategy: Strategy) -> int:
    [step] = [step for step in plan.steps if step.strategy is strategy]
    return step.stage


def chance_of(plan: ConnectionPlan, strategy: Strategy) -> float:
    [step] = [step for step in plan.steps if step.strategy is strategy]
    return step.chance


def why_not(plan: ConnectionPlan, strategy: Strategy) -> str:
    [out] = [out for out in plan.left_out if out.strategy is strategy]
    return out.reason


def test_two_easy_nats_are_left_to_plain_checks_while_the_relay_carries() -> None:
    plan = make_plan(EASY, EASY, EVERYTHING)
    assert [step.strategy for step in plan.stages[0]] == [Strategy.ICE, Strategy.PORT_MAPPING, Strategy.RELAY]
    assert chance_of(plan, Strategy.ICE) > 0.9
    assert (
        why_not(plan, Strategy.PREDICTION)
        == why_not(plan, Strategy.BIRTHDAY)
        == "plain checks connect the two"
    )
    assert why_not(plan, Strategy.TCP) == "UDP passes on both sides"


@pytest.mark.parametrize(
    ("hard", "chosen", "not_chosen"),
    [
        (COUNTING, Strategy.PREDICTION, Strategy.BIRTHDAY),
        (SYMMETRIC, Strategy.BIRTHDAY, Strategy.PREDICTION),
        (replace(SYMMETRIC, punch=COUNTING_PLAN), Strategy.PREDICTION, Strategy.BIRTHDAY),
        (replace(COUNTING, punch=RANDOM_PLAN), Strategy.BIRTHDAY, Strategy.PREDICTION),
    ],
)
def test_a_hard_nat_gets_the_technique_that_fits_after_plain_checks(
    hard: Side, chosen: Strategy, not_chosen: Strategy
) -> None:
    easy = replace(EASY, punch=EASY_PLAN)
    for sides in ((hard, easy), (easy, hard)):
        plan = make_plan(*sides, EVERYTHING)
        assert stage_of(plan, chosen) == 1
        assert chance_of(plan, chosen) > 0.95
        assert why_not(plan, not_chosen)


def test_the_chance_of_the_birthday_technique_is_that_of_the_formula() -> None:
    sides = replace(SYMMETRIC, punch=replace(RANDOM_PLAN, sockets=128)), replace(EASY, punch=EASY_PLAN)
    plan = make_plan(*sides, EVERYTHING)
    assert chance_of(plan, Strategy.BIRTHDAY) == pytest.approx(1 - math.exp(-128 * 2048 / 64512))


def test_hard_against_hard_is_left_to_the_relay() -> None:
    plan = make_plan(SYMMETRIC, SYMMETRIC, EVERYTHING)
    assert "both NATs" in why_not(plan, Strategy.BIRTHDAY)
    assert "both NATs" in why_not(plan, Strategy.PREDICTION)
    assert stage_of(plan, Strategy.RELAY) == 0
    assert plan.direct_chance < plan.chance


@pytest.mark.parametrize("with_samples", [False, True])
def test_two_nats_that_count_are_foretold_for_each_other(with_samples: bool) -> None:
    here, there = COUNTING, COUNTING
    if with_samples:
        here = replace(SYMMETRIC, punch=COUNTING_PLAN)
        there = replace(SYMMETRIC, punch=replace(COUNTING_PLAN, host="6.6.6.9"))
    plan = make_plan(here, there, EVERYTHING)
    assert chance_of(plan, Strategy.PREDICTION) > 0.95
    assert why_not(plan, Strategy.BIRTHDAY) == "not needed: the ports are foretold"


def test_without_udp_tcp_takes_the_place_of_plain_checks() -> None:
    plan = make_plan(EASY, BLOCKED, EVERYTHING)
    assert why_not(plan, Strategy.ICE) == "no UDP passes on the peer's side"
    assert stage_of(plan, Strategy.TCP) == 0
    assert stage_of(plan, Strategy.TUNNEL) == 1


def test_with_a_port_that_is_forwarded_even_hard_against_hard_is_direct() -> None:
    plan = make_plan(replace(SYMMETRIC, maps_ports=True), SYMMETRIC, EVERYTHING)
    assert chance_of(plan, Strategy.PORT_MAPPING) > 0.9


def test_global_ipv6_on_both_sides_makes_the_nats_no_matter() -> None:
    plan = make_plan(replace(SYMMETRIC, has_ipv6=True), replace(SYMMETRIC, has_ipv6=True), EVERYTHING)
    assert chance_of(plan, Strategy.ICE) > 0.9


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (replace(EVERYTHING, relay_only=True), "relay_only"),
        (replace(EVERYTHING, is_trusted=False), "not trusted"),
    ],
)
def test_nothing_direct_where_the_peer_may_not_learn_an_address(policy: Policy, words: str) -> None:
    plan = make_plan(OPEN, EASY, policy)
    assert not any(step.strategy.is_direct for step in plan.steps)
    assert plan.direct_chance == 0
    assert words in why_not(plan, Strategy.ICE)


def test_fallbacks_come_in_their_order_and_only_if_there_is_something_to_use() -> None:
    policy = Policy(
        fallbacks=(Fallback.ONION, Fallback.HTTP_TUNNEL), has_turn=True, has_tunnel=True, has_onion=True
    )
    plan = make_plan(EASY, EASY, policy)
    assert stage_of(plan, Strategy.ONION) < stage_of(plan, Strategy.TUNNEL)
    assert "leave it out" in why_not(plan, Strategy.RELAY)
    assert "leave it out" in why_not(plan, Strategy.PROXY)
    assert "no TURN server" in why_not(make_plan(EASY, EASY, Policy()), Strategy.RELAY)


def test_with_tor_alone_nothing_else_is_promised() -> None:
    plan = make_plan(OPEN, OPEN, replace(EVERYTHING, onion_only=True))
    assert [step.strategy for step in plan.steps] == [Strategy.ONION]
    assert plan.direct_chance == 0
    assert all("onion_only" in entry.reason for entry in plan.left_out)


def test_where_nothing_is_automatic_no_fallback_is_promised() -> None:
    plan = make_plan(EASY, EASY, replace(EVERYTHING, automatic=False))
    assert [step.strategy for step in plan.steps] == [Strategy.ICE]
    assert "automatic is off" in why_not(plan, Strategy.RELAY)


def test_a_policy_comes_from_the_settings() -> None:
    settings = Settings.load(relay_only=True, port_mapping=False, fallbacks="turn")
    policy = Policy.of(settings, has_proxy=True)
    assert policy == Policy(True, True, False, (Fallback.TURN,), False, False, True)
    limited = Policy.of(Settings.load(tcp=False, punch_rate=20, punch_sockets=8, punch_probes=9))
    assert not limited.tcp
    assert limited.punching == PunchLimits(20, 8, 9)


def test_without_tcp_in_the_settings_it_is_not_promised() -> None:
    assert why_not(make_plan(EASY, BLOCKED, replace(EVERYTHING, tcp=False)), Strategy.TCP) == (
        "tcp is off in the settings"
    )


def test_that_udp_passes_is_said_only_where_it_is_known() -> None:
    for sides in ((UNKNOWN, EASY), (EASY, UNKNOWN), (UNKNOWN, UNKNOWN)):
        assert "not known yet" in why_not(make_plan(*sides, EVERYTHING), Strategy.TCP)
    sampled = replace(UNKNOWN, punch=EASY_PLAN)
    assert why_not(make_plan(sampled, OPEN, EVERYTHING), Strategy.TCP) == "UDP passes on both sides"


def test_the_birthday_technique_is_promised_what_the_settings_let_it_cost() -> None:
    policy = replace(EVERYTHING, punching=PunchLimits(sockets=8, probes=8))
    plan = make_plan(SYMMETRIC, EASY, policy)
    assert chance_of(plan, Strategy.BIRTHDAY) == pytest.approx(1 - math.exp(-64 / 64512))
    assert "8 sockets against 8 guesses" in str(plan)


def test_ipv4_alone_against_ipv6_alone_is_for_a_relay_that_has_both() -> None:
    here, there = replace(OPEN, families=frozenset({4})), replace(EASY, families=frozenset({6}))
    plan = make_plan(here, there, EVERYTHING)
    assert plan.direct_chance == 0
    assert why_not(plan, Strategy.ICE) == "this side has IPv4 alone, and the peer's side IPv6 alone"
    [relay] = [step for step in plan.steps if step.strategy is Strategy.RELAY]
    assert (relay.stage, relay.reason) == (0, "a relay with IPv4 and IPv6 addresses reaches both sides")
    both = replace(there, families=frozenset({4, 6}))
    assert chance_of(make_plan(here, both, EVERYTHING), Strategy.ICE) > 0.9
    assert chance_of(make_plan(here, EASY, EVERYTHING), Strategy.ICE) > 0.9


def test_where_nothing_is_translated_no_router_is_said_to_be_missing() -> None:
    reason = why_not(make_plan(OPEN, OPEN, EVERYTHING), Strategy.PORT_MAPPING)
    assert reason == "nothing is translated, so a forwarded port would lead nowhere new"


behaviours = st.builds(
    NatBehaviour,
    mapping=st.sampled_from(Dependence),
    filtering=st.sampled_from(Dependence),
    translated=st.sampled_from([None, False, True]),
    udp_blocked=st.booleans(),
    port_assignment=st.sampled_from(PortAssignment),
)
sides = st.builds(
    Side,
    behaviours,
    st.sampled_from([None, EASY_PLAN, COUNTING_PLAN, RANDOM_PLAN]),
    st.sampled_from([None, False, True]),
    st.booleans(),
    st.sampled_from([frozenset[int](), frozenset({4}), frozenset({6}), frozenset({4, 6})]),
)
policies = st.builds(
    Policy,
    *[st.booleans()] * 3,
    st.lists(st.sampled_from(Fallback), unique=True).map(tuple),
    *[st.booleans()] * 8,
)


def with_relays(*fallbacks: Fallback) -> Policy:
    return replace(EVERYTHING, fallbacks=fallbacks, has_tcp_relay=True)


@pytest.mark.parametrize("sides", [(EASY, EASY), (BLOCKED, BLOCKED)])
def test_a_tcp_relay_comes_after_the_relay_for_udp_and_before_the_tunnel(sides: tuple[Side, Side]) -> None:
    plan = make_plan(*sides, with_relays(*Fallback))
    places = [stage_of(plan, each) for each in (Strategy.RELAY, Strategy.TCP_RELAY, Strategy.TUNNEL)]
    assert places == sorted(set(places))
    assert chance_of(plan, Strategy.TCP_RELAY) < chance_of(plan, Strategy.RELAY)
    [step] = [step for step in plan.steps if step.strategy is Strategy.TCP_RELAY]
    assert step.reason == "for relays that carry no UDP, and peers that are reached over TCP alone"


def test_a_tcp_relay_has_to_be_asked_for_and_wants_a_server_over_tcp() -> None:
    unasked = make_plan(EASY, EASY, replace(EVERYTHING, has_tcp_relay=True))
    assert why_not(unasked, Strategy.TCP_RELAY) == "fallbacks in the settings leave it out"
    unable = make_plan(EASY, EASY, replace(EVERYTHING, fallbacks=tuple(Fallback)))
    assert why_not(unable, Strategy.TCP_RELAY).startswith("no TURN server for TCP is configured")
    for uri, able in (
        ("turn:a", False),
        ("wss://a", False),
        ("turns:a", True),
        ("turn:a?transport=tcp", True),
    ):
        settings = Settings.load(turn_servers=[{"uri": uri, "username": "u", "password": "p"}])
        assert Policy.of(settings).has_tcp_relay is able


@given(sides, sides, policies)
def test_every_strategy_is_accounted_for_once(ours: Side, theirs: Side, policy: Policy) -> None:
    plan = make_plan(ours, theirs, policy)
    named = [step.strategy for step in plan.steps] + [out.strategy for out in plan.left_out]
    assert sorted(named) == sorted(Strategy)
    assert all(0 <= step.chance <= 1 and step.reason for step in plan.steps)
    assert all(out.reason for out in plan.left_out)
    assert [step.stage for step in plan.steps] == sorted(step.stage for step in plan.steps)
    assert 0 <= plan.direct_chance <= plan.chance + 1e-12
    assert json.loads(json.dumps(plan.as_json()))["steps"] == plan.as_json()["steps"]
    assert all(strategy.value in str(plan) for strategy in Strategy)


@given(sides, sides, policies)
def test_both_sides_make_the_same_plan(ours: Side, theirs: Side, policy: Policy) -> None:
    here, there = make_plan(ours, theirs, policy), make_plan(theirs, ours, policy)
    assert [(step.strategy, step.stage, step.chance) for step in here.steps] == [
        (step.strategy, step.stage, step.chance) for step in there.steps
    ]
