"""The check list: order, pruning, limits, freezing and thawing (RFC 8445 section 6.1)."""

import itertools

import pytest
from peerpath.ice import Candidate, CandidatePair, CandidateType, PairState
from peerpath.ice.check_list import CheckList
from peerpath.ice.pair import TRANSITIONS
from stunwire import TransportAddress
from unit.sdk.ice.duet import host_candidate

FROZEN, WAITING, IN_PROGRESS, SUCCEEDED, FAILED = PairState
_ports = itertools.count(5000)


def pair(
    priority=100, *, foundation="1", local_foundation="1", local="192.0.2.1", remote=None, controlling=True
):
    remote = remote or TransportAddress("192.0.2.2", next(_ports))
    candidate = Candidate(CandidateType.HOST, remote, priority, foundation)
    return CandidatePair(
        host_candidate(local, foundation=local_foundation), candidate, controlling=controlling, created_at=0
    )


def states(check_list):
    return [each.state for each in check_list]


def progress(check_list):
    """Takes the next check and puts it under way, as the session does."""
    chosen = check_list.next_check()
    chosen.enter(IN_PROGRESS)
    chosen.first_check_at = 0.0
    return chosen


@pytest.mark.parametrize("before", PairState)
@pytest.mark.parametrize("after", PairState)
def test_the_state_machine_has_these_transitions_only(before, after):
    subject = pair()
    subject.state = before
    if after is before or after in TRANSITIONS[before]:
        subject.enter(after)
        assert subject.state is after
    else:
        with pytest.raises(AssertionError):
            subject.enter(after)


def test_pairs_are_checked_in_the_order_of_their_priority():
    check_list = CheckList(100)
    pairs = [pair(priority, foundation=str(priority)) for priority in (5, 9, 1, 7)]
    for each in pairs:
        check_list.add(each)
    assert [progress(check_list).remote.priority for _ in pairs] == [9, 7, 5, 1]


def test_the_first_pair_of_each_foundation_waits_and_the_others_are_frozen():
    check_list = CheckList(100)
    for priority, foundation in ((9, "1"), (8, "1"), (7, "2"), (6, "2")):
        check_list.add(pair(priority, foundation=foundation))
    assert states(check_list) == [WAITING, FROZEN, WAITING, FROZEN]


def test_success_unfreezes_the_foundation():
    check_list = CheckList(100)
    for priority, foundation in ((9, "1"), (8, "1"), (7, "1"), (6, "2"), (5, "2")):
        check_list.add(pair(priority, foundation=foundation))
    first = progress(check_list)
    first.enter(SUCCEEDED)
    check_list.unfreeze(first.foundation)
    assert states(check_list) == [SUCCEEDED, WAITING, WAITING, WAITING, FROZEN]


def test_when_nothing_waits_one_pair_of_each_idle_foundation_thaws():
    check_list = CheckList(100)
    for priority, foundation in ((9, "1"), (8, "1"), (7, "1"), (6, "2"), (5, "2")):
        check_list.add(pair(priority, foundation=foundation))
    progress(check_list).enter(FAILED)
    progress(check_list)  # foundation 2 is under way
    assert progress(check_list).remote.priority == 8
    assert states(check_list) == [FAILED, IN_PROGRESS, FROZEN, IN_PROGRESS, FROZEN]
    assert check_list.next_check() is None


def test_a_pair_that_comes_late_waits_if_its_foundation_has_succeeded():
    check_list = CheckList(100)
    check_list.add(pair(9))
    progress(check_list).enter(SUCCEEDED)
    late = check_list.add(pair(8))
    assert late.state is WAITING


def test_a_pair_that_comes_late_is_frozen_while_its_foundation_is_under_way():
    check_list = CheckList(100)
    check_list.add(pair(9))
    progress(check_list)
    assert check_list.add(pair(10)).state is FROZEN


def test_triggered_checks_come_first_in_their_order():
    check_list = CheckList(100)
    low, lower = (check_list.add(pair(priority, foundation=str(priority))) for priority in (2, 1))
    check_list.add(pair(9, foundation="9"))
    check_list.trigger(lower)
    check_list.trigger(low)
    check_list.trigger(lower)  # again: it goes to the end
    assert [progress(check_list).remote.priority for _ in range(3)] == [2, 1, 9]


def test_a_redundant_pair_of_lower_priority_is_pruned():
    check_list = CheckList(100)
    remote = TransportAddress("192.0.2.2", 1)
    check_list.add(pair(9, remote=remote))
    assert check_list.add(pair(8, remote=remote)) is None
    assert len(check_list) == 1


def test_a_redundant_pair_of_higher_priority_replaces_one_that_was_not_checked():
    check_list = CheckList(100)
    remote = TransportAddress("192.0.2.2", 1)
    check_list.add(pair(8, remote=remote))
    better = check_list.add(pair(9, remote=remote))
    assert list(check_list) == [better]
    better.enter(IN_PROGRESS)
    assert check_list.add(pair(10, remote=remote)) is None


def test_the_list_holds_no_more_than_its_limit_and_keeps_the_best():
    check_list = CheckList(10)
    for priority in range(1, 31):
        check_list.add(pair(priority, foundation=str(priority)))
    assert sorted(each.remote.priority for each in check_list) == list(range(21, 31))
    assert check_list.add(pair(1)) is None


def test_what_has_succeeded_does_not_make_room():
    check_list = CheckList(1)
    check_list.add(pair(1))
    progress(check_list).enter(SUCCEEDED)
    assert check_list.add(pair(2)) is None


def test_no_more_pairs_are_checked_than_the_limit_however_many_come():
    check_list = CheckList(10)
    checked = 0
    for priority in range(1, 101):
        check_list.add(pair(priority, foundation=str(priority)))
        if check_list.has_work:
            progress(check_list).enter(FAILED)
            checked += 1
    assert checked == 10
    assert check_list.is_spent
    assert check_list.is_exhausted


def test_conclusion_drops_what_is_under_way_and_keeps_what_has_succeeded():
    check_list = CheckList(100)
    for priority in (3, 2, 1):
        check_list.add(pair(priority, foundation=str(priority)))
    winner = progress(check_list)
    winner.enter(SUCCEEDED)
    progress(check_list)
    assert len(check_list.conclude(lambda _: False)) == 2
    assert list(check_list) == [winner]


def test_without_pairs_it_is_exhausted():
    assert CheckList(100).is_exhausted
    assert not CheckList(100).has_work


def test_an_invalid_pair_is_in_no_list():
    subject = pair()
    subject.enter(WAITING)
    subject.enter(SUCCEEDED)
    subject.valid_local = subject.local
    subject.nomination = 1
    subject.invalidate("gone")
    assert not subject.is_valid
    assert not subject.is_nominated
    assert subject.state is FAILED
