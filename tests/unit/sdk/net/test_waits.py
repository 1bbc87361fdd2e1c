"""Waits: a slow way is given more time, and no way for ever."""

import pytest
from peerpath.net.waits import Waits


@pytest.mark.parametrize(
    ("round_trip", "seconds"), [(0.0, 5.0), (0.5, 5.0), (1.0, 8.0), (7.0, 56.0), (50.0, 60.0)]
)
def test_an_answer_may_take_eight_round_trips_but_no_more_than_a_minute(round_trip: float, seconds: float):
    assert Waits(answer=5.0).for_answer(round_trip) == seconds
