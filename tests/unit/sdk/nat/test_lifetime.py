"""LifetimeSearch: closes in on the lifetime of a mapping with few rounds."""

import pytest
from peerpath.nat.lifetime import LifetimeSearch


def found(true_lifetime, **bounds):
    search, rounds = LifetimeSearch(**bounds), 0
    while waits := search.next_waits():
        rounds += 1
        assert rounds < 10
        for wait in waits:
            search.note(wait, wait < true_lifetime)
    return search, rounds


@pytest.mark.parametrize("lifetime", [12, 30, 60, 120, 180, 299, 599])
def test_it_comes_within_a_tenth_in_two_or_three_rounds(lifetime):
    search, rounds = found(lifetime)

    assert search.lifetime < lifetime <= search.lifetime * 1.1 + 1e-9
    assert rounds <= 3


def test_a_mapping_that_dies_before_the_shortest_wait_is_zero():
    search, rounds = found(5)
    assert search.lifetime == 0
    assert rounds == 1


def test_a_mapping_that_outlives_the_longest_wait_is_at_least_that():
    search, rounds = found(100_000)
    assert search.lifetime == pytest.approx(600)
    assert rounds == 1


def test_one_that_lived_longer_outweighs_one_that_was_lost():
    search = LifetimeSearch()
    search.note(60, False)
    search.note(120, True)
    assert search.lifetime == 120
    assert search.died == float("inf")
