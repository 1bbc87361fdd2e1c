"""How often one key may call."""

from peerpath import Identity
from peerpath.calls.attempt_limit import _MAX_KEYS, AttemptLimit
from peerpath.identity import PublicKey

ALICE, BOB = (Identity.generate().public_key for _ in range(2))


def test_some_attempts_in_a_row_and_then_so_many_a_minute():
    limit = AttemptLimit(per_minute=12, burst=3)
    assert [limit.take(ALICE, 0) for _ in range(5)] == [True, True, True, False, False]
    assert not limit.take(ALICE, 4.9)
    assert limit.take(ALICE, 5.0)
    assert not limit.take(ALICE, 5.0)
    assert [limit.take(ALICE, 3600) for _ in range(4)] == [True, True, True, False]


def test_one_key_takes_nothing_from_another():
    limit = AttemptLimit(per_minute=12, burst=1)
    assert limit.take(ALICE, 0)
    assert not limit.take(ALICE, 0)
    assert limit.take(BOB, 0)


def test_refused_attempts_do_not_put_the_next_one_off():
    limit = AttemptLimit(per_minute=60, burst=1)
    assert limit.take(ALICE, 0)
    assert not any(limit.take(ALICE, now / 10) for now in range(10))
    assert limit.take(ALICE, 1.0)


def test_what_is_remembered_is_bounded():
    limit = AttemptLimit(per_minute=1, burst=1)
    for number in range(_MAX_KEYS + 10):
        assert limit.take(PublicKey(number.to_bytes(32, "big")), 0)
    assert len(limit._buckets) == _MAX_KEYS
