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
DOWNWARD = PunchPlan("6.6.6.9", APD, ports=(5010, 5008, 5006, 5004, 5002), round_trip=0.05)
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
    ("ours", "theirs"),
    [(EASY, RANDOM), (RANDOM, EASY), (EASY, COUNTING), (COUNTING, EASY), (COUNTING, DOWNWARD)],
)
def test_no_second_has_more_packets_than_the_rate_allows(ours: PunchPlan, theirs: PunchPlan) -> None:
    _, sent = run(ours, theirs)
    times = [at for at, _ in sent]
    for at in times:
        assert sum(at <= other < at + 1 for other in times) <= 151


def test_the_opening_side_sends_primers_that_get_further_and_whole_packets_when_the_guesses_are_over() -> (
    None
):
    campaign, sent = run(RANDOM, EASY)
    rounds = sent[:256], sent[256:512], sent[512:]
    for packets, ttl in zip(rounds, (5, 8, None), strict=True):
        assert [probe.socket for _, probe in packets] == list(range(256))
        assert {probe.ttl for _, probe in packets} == {ttl}
    assert {probe.to for _, probe in sent} == {EASY.address}
    assert campaign.sent == 3 * 256
    _, guesses = run(EASY, RANDOM)
    assert rounds[1][0][0] < guesses[-1][0] < rounds[2][0][0]


def test_without_primers_every_packet_goes_all_the_way_and_waits_for_nothing() -> None:
    _, sent = run(RANDOM, EASY, PunchLimits(primer_ttl=None))
    assert {probe.ttl for _, probe in sent} == {None}
    assert sent[512][0] < 10


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


def test_two_nats_that_count_are_aimed_at_packet_by_packet() -> None:
    _, leading = run(COUNTING, DOWNWARD)
    _, shifting = run(DOWNWARD, COUNTING)
    assert [probe.socket for _, probe in leading] == list(range(256))
    assert [probe.to.port for _, probe in leading][:4] == [5000, 4998, 4996, 4994]
    ports = [probe.to.port for _, probe in shifting]
    assert ports[:10] == [5006, 5007, 5008, 5009, 5010, 5011, 5012, 5013, 5015, 5016]
    assert ports[-1] == 5005 + 256 + 31
    assert {probe.ttl for _, probe in leading + shifting} == {None}


@pytest.mark.parametrize("taken", [(0, 0), (3, 0), (0, 3), (16, 8)])
def test_what_others_have_taken_meanwhile_is_found(taken: tuple[int, int]) -> None:
    """Each packet's own port is counted here as its NAT would, from where others have left it."""

    def paths(ours: PunchPlan, theirs: PunchPlan, taken: int) -> set[tuple[int, int]]:
        packets = [probe for _, probe in run(ours, theirs)[1]]
        return {(ours.pattern.ahead(taken + 1 + at), probe.to.port) for at, probe in enumerate(packets)}

    one, other = paths(COUNTING, DOWNWARD, taken[0]), paths(DOWNWARD, COUNTING, taken[1])
    assert one & {(there, here) for here, there in other}
