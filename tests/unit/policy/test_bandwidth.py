"""Buckets of bytes, by relayed address and by account."""

from turnrelay.policy.bandwidth import SMALLEST_BURST, BandwidthLimits

RATE, ACCOUNT_RATE = 1_000_000, 3_000_000


def limits() -> BandwidthLimits:
    return BandwidthLimits(RATE, ACCOUNT_RATE, burst_seconds=2.0)


def test_rates_and_bursts():
    bandwidth = limits().open("alice", 0.0)
    assert bandwidth.allocation is not None
    assert bandwidth.account is not None
    assert (bandwidth.allocation.rate, bandwidth.allocation.burst) == (RATE, 2 * RATE)
    assert (bandwidth.account.rate, bandwidth.account.burst) == (ACCOUNT_RATE, 2 * ACCOUNT_RATE)


def test_an_accounts_allocations_share_its_bucket_and_nobody_elses():
    registry = limits()
    first, second, other = (registry.open(name, 0.0) for name in ("alice", "alice", "bob"))
    assert first.account is second.account is not other.account
    assert first.allocation is not second.allocation


def test_zero_is_no_limit():
    bandwidth = BandwidthLimits(0, 0).open("alice", 0.0)
    assert bandwidth.allocation is None
    assert bandwidth.account is None
    bandwidth.release()


def test_the_largest_datagram_always_fits_the_burst():
    bandwidth = BandwidthLimits(10, 10).open("alice", 0.0)
    assert bandwidth.allocation is not None
    assert bandwidth.allocation.burst == SMALLEST_BURST >= 65_535


def test_reopening_does_not_refill_the_bucket():
    registry = limits()
    bandwidth = registry.open("alice", 0.0)
    assert bandwidth.account is not None
    assert bandwidth.account.take(2 * ACCOUNT_RATE, 0.0)
    bandwidth.release()
    again = registry.open("alice", 0.1)
    assert again.account is bandwidth.account
    assert not again.account.take(ACCOUNT_RATE, 0.1)


def test_accounts_that_are_gone_and_full_again_are_forgotten():
    registry = limits()
    for number in range(1000):
        bandwidth = registry.open(f"user{number}", float(number))
        assert bandwidth.account is not None
        bandwidth.account.take(ACCOUNT_RATE, float(number))
        bandwidth.release()
    assert len(registry) <= 4


def test_an_account_with_an_allocation_left_is_kept():
    registry = limits()
    kept, ended = registry.open("alice", 0.0), registry.open("alice", 0.0)
    ended.release()
    ended.release()
    for number in range(10):
        registry.open(f"user{number}", 100.0 + number).release()
    assert registry.open("alice", 200.0).account is kept.account
