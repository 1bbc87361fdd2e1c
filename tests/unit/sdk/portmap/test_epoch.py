"""RFC 6887 section 8.5: from two epoch values and the time between, has the gateway lost its state?"""

import pytest
from peerpath.portmap.epoch import Epoch


@pytest.mark.parametrize(
    ("first", "elapsed", "second", "is_valid"),
    [
        (1000, 100.0, 1100, True),
        (1000, 100.0, 1000 + 94, True),  # 100 - 100/16 = 93.75 <= 94 + 2
        (1000, 100.0, 1090, False),  # 90 + 2 < 93.75
        (1000, 100.0, 1108, True),  # 108 - 108/16 = 101.25 <= 100 + 2
        (1000, 100.0, 1120, False),  # 120 - 7.5 = 112.5 > 102
        (1000, 0.0, 999, True),  # one second back is rounding
        (1000, 0.0, 998, False),
        (100_000, 3600.0, 5, False),  # it counts from the beginning again
        (7, 1.0, 0, False),
    ],
)
def test_the_epoch_tells_whether_state_was_lost(
    first: int, elapsed: float, second: int, is_valid: bool
) -> None:
    epoch = Epoch()
    assert epoch.hear(first, 50.0)
    assert epoch.hear(second, 50.0 + elapsed) is is_valid


def test_after_a_loss_the_new_count_is_the_measure() -> None:
    epoch = Epoch()
    epoch.hear(5000, 0.0)
    assert not epoch.hear(3, 10.0)
    assert epoch.hear(13, 20.0)
