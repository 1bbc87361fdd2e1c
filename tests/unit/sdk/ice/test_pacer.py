"""Pacing (RFC 8445 section 14.2) and RTO (section 14.3)."""

import itertools

import pytest
from peerpath.ice import Pacer
from peerpath.ice.pacer import Turn, check_rto, gathering_rto
from unit.sdk.ice.duet import Duet, host_candidate


def test_the_first_slot_is_now_and_the_others_follow_at_ta():
    pacer = Pacer()
    assert [round(pacer.reserve(10), 3) for _ in range(4)] == [10, 10.05, 10.1, 10.15]


def test_after_a_pause_the_next_slot_is_now():
    pacer = Pacer()
    pacer.reserve(0)
    assert pacer.reserve(100) == 100


def test_sessions_take_turns():
    pacer = Pacer()
    one, other = Turn(pacer), Turn(pacer)
    assert one.take(0)
    assert not other.take(0)
    assert not one.take(0)
    assert other.next_at == 0.05
    assert one.next_at == 0.1
    assert other.take(0.05)
    assert not one.take(0.05)
    assert one.take(0.1)


def test_a_slot_left_unused_is_void():
    pacer = Pacer()
    one, other = Turn(pacer), Turn(pacer)
    one.take(0)
    assert not one.take(0)
    assert other.take(5)
    assert not one.take(5.01)


def test_ta_below_five_milliseconds_is_refused():
    with pytest.raises(ValueError, match="Ta"):
        Pacer(0.004)


def test_checks_leave_no_faster_than_ta():
    duet = Duet(passes=lambda _: False)
    for number in range(4):
        duet.give(duet.a, host_candidate(f"192.0.2.{number + 1}", foundation=str(number)))
    duet.give(
        duet.b, *(host_candidate(f"198.51.100.{number + 1}", foundation=str(number)) for number in range(4))
    )
    duet.start()
    duet.run(0.45)
    times = [at for at, name, _ in duet.sent if name == "a"]
    assert len(times) == 10
    assert all(later - earlier > 0.0499 for earlier, later in itertools.pairwise(times))


def test_two_sessions_of_a_process_share_the_pace():
    pacer = Pacer()
    duets = [Duet(passes=lambda _: False) for _ in range(2)]
    for duet in duets:
        duet.a.agent._context.turn._pacer = pacer
        duet.give(duet.a, host_candidate("192.0.2.1"))
        duet.give(duet.b, host_candidate("192.0.2.2"))
        duet.start()
    assert [len([1 for _, name, _ in duet.sent if name == "a"]) for duet in duets] == [1, 0]
    duets[1].run(0.06)
    assert [at for at, name, _ in duets[1].sent if name == "a"] == [0.05]


@pytest.mark.parametrize(
    ("waiting", "in_progress", "rto"),
    [(0, 1, 0.5), (5, 5, 0.5), (6, 5, 0.55), (90, 10, 5.0)],
)
def test_check_rto(waiting, in_progress, rto):
    assert check_rto(0.05, waiting, in_progress) == pytest.approx(rto)


@pytest.mark.parametrize(("candidates", "rto"), [(1, 0.5), (10, 0.5), (30, 1.5)])
def test_gathering_rto(candidates, rto):
    assert gathering_rto(0.05, candidates) == pytest.approx(rto)
