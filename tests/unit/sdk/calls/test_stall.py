"""Silence means something only where an answer is waited for."""

import itertools

from peerpath.calls.stall import MEND_AFTER, MEND_EVERY, PROBE_AFTER, PROBE_EVERY, StallWatch


def test_a_quiet_connection_is_left_alone():
    watch = StallWatch()
    for now in range(100):
        assert not watch.should_probe(False, now)
        assert not watch.should_mend(now)


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
