"""Campaigns: how many packets, when, from which socket; on a clock that the test moves."""

from random import Random

import pytest
from peerpath.nat.behaviour import Dependence
from peerpath.punch.campaign import Campaign, Probe
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.punch.tactics import Tactic, choose_tactic

EASY = PunchPlan("5.5.5.5", Dependence.ENDPOINT_INDEPENDENT, port=4000, round_trip=0.05)
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT
COUNTING = PunchPlan("6.6.6.6", APD, ports=(5000, 5001, 5002, 5003, 5004, 5005), round_trip=0.05)
RANDOM = PunchPlan("6.6.6.8", APD, ports=(5000, 35300, 15100, 62000, 1050, 23456), round_trip=0.05)


def run(
    ours: PunchPlan, theirs: PunchPlan, limits: PunchLimits | None = None
) -> tuple[Campaign, list[tuple[float, Probe]]]:
    """All packets with their times, from 0 to the end."""
    tactic = choose_tactic(ours, theirs)
    assert isinstance(tactic, Tactic)
    campaign = Campaign(tactic, limits or PunchLimits(), Random(3))
    sent = [(0.0, probe) for probe in campaign.start(0.0)]
    while (deadline := campaign.next_deadline()) is not None:
        sent += [(deadline, probe) for probe in campaign.handle_timeout(deadline)]
    assert campaign.is_over
    return campaign, sent


@pytest.mark.parametrize(
    ("ours", "theirs"), [(EASY, RANDOM), (RANDOM, EASY), (EASY, COUNTING), (COUNTING, EASY)]
)
def test_no_second_has_more_packets_than_the_rate_allows(ours: PunchPlan, theirs: PunchPlan) -> None:
    _, sent = run(ours, theirs)
    times = [at for at, _ in sent]
    for at in times:
        assert sum(at <= other < at + 1 for other in times) <= 151


def test_the_opening_side_sends_a_primer_from_every_socket_and_then_whole_packets() -> None:
    campaign, sent = run(RANDOM, EASY)
    first, later = sent[:256], sent[256:]
    assert [probe.socket for _, probe in first] == list(range(256))
    assert {probe.ttl for _, probe in first} == {5}
    assert {probe.ttl for _, probe in later} == {None}
    assert {probe.to for _, probe in sent} == {EASY.address}
    assert len(sent) == campaign.sent == 3 * 256


def test_the_guessing_side_begins_when_the_other_has_opened_and_half_a_round_trip_later() -> None:
    _, sent = run(EASY, RANDOM)
    assert sent[0][0] == pytest.approx(256 / 150 + 0.05)


def test_random_ports_are_guessed_once_each_and_no_more_than_allowed() -> None:
    _, sent = run(EASY, RANDOM)
    ports = [probe.to.port for _, probe in sent]
    assert len(ports) == len(set(ports)) == 2048
    assert {(probe.socket, probe.to.host) for _, probe in sent} == {(0, "6.6.6.8")}


def test_foretold_ports_are_gone_through_again_with_growing_pauses() -> None:
    _, sent = run(EASY, COUNTING)
    ports = [probe.to.port for _, probe in sent]
    assert ports[:16] == list(range(5006, 5022))
    assert ports.count(5006) == 3
    rounds = [at for at, probe in sent if probe.to.port == 5006]
    assert rounds[2] - rounds[1] > rounds[1] - rounds[0]


def test_the_opening_side_stays_until_the_last_guess_could_have_come() -> None:
    tactic = choose_tactic(RANDOM, EASY)
    assert isinstance(tactic, Tactic)
    campaign = Campaign(tactic, PunchLimits(), Random(3))
    campaign.start(0.0)
    end = 0.0
    while (deadline := campaign.next_deadline()) is not None:
        campaign.handle_timeout(deadline)
        end = deadline
    _, guesses = run(EASY, RANDOM)
    assert end > guesses[-1][0] + 0.1


def test_a_call_that_comes_late_does_not_make_up_for_what_was_missed() -> None:
    tactic = choose_tactic(RANDOM, EASY)
    assert isinstance(tactic, Tactic)
    campaign = Campaign(tactic, PunchLimits(), Random(3))
    campaign.start(0.0)
    assert len(campaign.handle_timeout(1.0)) <= 9


def test_once_something_came_through_it_holds_still() -> None:
    tactic = choose_tactic(EASY, RANDOM)
    assert isinstance(tactic, Tactic)
    campaign = Campaign(tactic, PunchLimits(), Random(3))
    campaign.start(0.0)
    campaign.handle_timeout(2.0)
    campaign.hold(2.0)
    assert campaign.handle_timeout(2.9) == []
    assert campaign.handle_timeout(3.0) != []
    campaign.stop()
    assert campaign.is_over
    assert campaign.next_deadline() is None
