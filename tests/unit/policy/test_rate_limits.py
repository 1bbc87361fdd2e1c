"""Answers to strangers are rationed by source prefix, in memory that a flood cannot grow or reset."""

import pytest
from turnrelay.policy.rate_limits import PrefixRateLimit


def spend(limit: PrefixRateLimit, host: str, now: float, tries: int) -> int:
    return sum(limit.allow(host, now) for _ in range(tries))


def test_a_burst_then_the_rate():
    limit = PrefixRateLimit(10, 30)
    assert spend(limit, "192.0.2.1", 100.0, 50) == 30
    assert spend(limit, "192.0.2.1", 100.5, 50) == 5
    assert spend(limit, "192.0.2.1", 200.0, 50) == 30


def test_a_fresh_bucket_is_full_at_time_zero():
    assert spend(PrefixRateLimit(10, 30), "192.0.2.1", 0.0, 50) == 30


def test_what_is_given_back_can_be_spent_again_and_makes_no_burst_larger():
    limit = PrefixRateLimit(1, 5)
    assert spend(limit, "192.0.2.1", 1.0, 6) == 5
    limit.give_back("192.0.2.200")
    assert spend(limit, "192.0.2.1", 1.0, 2) == 1
    limit.give_back("192.0.2.1")
    assert spend(limit, "192.0.2.1", 100.0, 6) == 5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("192.0.2.1", "192.0.2.200"),
        ("192.0.2.1", "::ffff:192.0.2.9"),
        ("2001:db8::1", "2001:db8:0:ff::1"),
    ],
)
def test_one_prefix_shares_one_bucket(first, second):
    limit = PrefixRateLimit(1, 5)
    assert spend(limit, first, 1.0, 5) == 5
    assert not limit.allow(second, 1.0)


def test_a_flood_from_one_prefix_leaves_others_alone():
    limit = PrefixRateLimit(1, 5)
    spend(limit, "192.0.2.1", 1.0, 1000)
    others = [f"198.51.{number}.1" for number in range(200)]
    # All but those that share the drained bucket by chance, 1 in 65,536 each.
    assert sum(limit.allow(host, 1.0) for host in others) >= 198


def test_a_flood_of_prefixes_resets_nobody_and_takes_no_memory():
    limit = PrefixRateLimit(1, 5)
    assert spend(limit, "192.0.2.1", 1.0, 5) == 5
    before = len(limit._spent)
    for number in range(200_000):
        limit.allow(f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}.1", 1.0)
    assert not limit.allow("192.0.2.1", 1.0)
    assert len(limit._spent) == before == 65_536


def test_where_a_prefix_lands_depends_on_the_key():
    hosts = [f"198.51.{number}.1" for number in range(64)]

    def drained_beside(key: bytes) -> frozenset[str]:
        limit = PrefixRateLimit(1, 1, slots=8, key=key)
        limit.allow("192.0.2.1", 1.0)
        return frozenset(host for host in hosts if not limit.allow(host, 1.0))

    assert len({drained_beside(bytes([number]) * 16) for number in range(8)}) > 1


@pytest.mark.parametrize("slots", [0, 3, -4, 1000])
def test_slots_are_a_power_of_two(slots):
    with pytest.raises(ValueError, match="power of two"):
        PrefixRateLimit(1, 1, slots=slots)
