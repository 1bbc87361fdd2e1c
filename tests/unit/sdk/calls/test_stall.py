"""Silence means something only where an answer is waited for."""

import itertools

from peerpath.calls.stall import ASK_AFTER, MEND_AFTER, MEND_EVERY, PROBE_AFTER, PROBE_EVERY, StallWatch


def test_a_quiet_connection_whose_path_answers_is_left_alone():
    watch = StallWatch()
    for now in range(100):
        if now % 6 == 0:
            watch.consented(now)
        assert not watch.should_probe(False, now)
        assert not watch.should_mend(now)
        assert not watch.is_silent(now)


def test_a_quiet_connection_whose_path_does_not_answer_is_asked():
    watch = StallWatch()
    watch.should_probe(False, 0)
    watch.consented(1)
    assert not watch.should_probe(False, 1 + ASK_AFTER - 0.1)
    assert watch.should_probe(False, 1 + ASK_AFTER)
    # The question is under way from here on.
    assert not watch.should_probe(True, 8)
    assert not watch.is_silent(8 + MEND_AFTER - 0.1)
    assert watch.is_silent(8 + MEND_AFTER)
    assert not watch.is_lost(1 + 29.9)
    assert watch.is_lost(1 + 30)
    watch.received(32)
    assert not watch.should_probe(False, 33)
    assert not watch.is_silent(33)
    assert not watch.is_lost(33)


def test_where_something_is_under_way_silence_is_told_sooner():
    watch = StallWatch(silent_after=3, lost_after=10)
    watch.should_probe(True, 0)
    silent = [now for now in range(20) if watch.is_silent(now)]
    lost = [now for now in range(20) if watch.is_lost(now)]
    assert (silent[0], lost[0]) == (3, 10)


def test_a_path_that_answers_while_the_link_is_slow_is_not_silent():
    watch = StallWatch()
    for now in range(60):
        watch.should_probe(True, now)
        if now % 5 == 0:
            watch.consented(now)
        assert not watch.is_silent(now)
        assert not watch.is_lost(now)


def test_what_is_not_answered_is_asked_anew_and_then_another_path_is_looked_for():
    watch, probes, mends = StallWatch(), [], []
    for tick in range(int(10 / 0.05)):
        now = tick * 0.05
        if watch.should_probe(True, now):
            probes.append(now)
        if watch.should_mend(now):
            mends.append(now)
    assert probes[0] >= PROBE_AFTER
    assert probes[0] < PROBE_AFTER + 0.1
    assert all(after - before >= PROBE_EVERY for before, after in itertools.pairwise(probes))
    assert mends[0] >= MEND_AFTER
    assert mends[0] < MEND_AFTER + 0.1
    assert all(after - before >= MEND_EVERY for before, after in itertools.pairwise(mends))
    assert len(mends) == 3


def test_any_word_of_the_peer_ends_the_waiting():
    watch = StallWatch()
    assert not watch.should_probe(True, 0)
    assert watch.should_probe(True, 1)
    watch.received(1.5)
    assert not watch.should_probe(True, 2)
    assert not watch.should_mend(2.5)
    assert watch.should_mend(2 + MEND_AFTER)


def test_time_in_which_nothing_was_asked_does_not_count():
    watch = StallWatch()
    watch.should_probe(True, 0)
    watch.should_probe(False, 1)
    assert not watch.should_probe(True, 50)
    assert not watch.should_mend(50)
