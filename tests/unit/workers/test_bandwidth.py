"""One bucket for each account, wherever its packets are moved."""

from turnrelay.policy.bandwidth import SMALLEST_BURST
from turnrelay.policy.rate_limits import SLOTS, PrefixRateLimit
from turnrelay.workers.bandwidth import SharedBuckets, WholeBandwidth
from turnrelay.workers.memory import SharedMemory

BURST = int(SMALLEST_BURST)


def _two(rate: float = 1000.0) -> tuple[WholeBandwidth, WholeBandwidth, SharedBuckets, list[float]]:
    now = [100.0]
    buckets = SharedBuckets(3, 8, rate, 1.0, lambda: now[0])
    one, other = (WholeBandwidth(buckets, member, 0.0, 1.0) for member in (1, 2))
    return one, other, buckets, now


def test_what_one_process_spends_another_cannot():
    one, other, _, _ = _two()
    first, second = one.open("alice", 100.0), other.open("alice", 100.0)
    assert first.account is not None
    assert second.account is not None
    assert first.account.take(BURST - 100, 100.0)
    assert not second.account.take(101, 100.0)
    assert second.account.take(100, 100.0)
    assert not first.account.take(1, 100.0)


def test_accounts_do_not_share_a_bucket():
    one, other, _, _ = _two()
    alice, bob = one.open("alice", 100.0), other.open("bob", 100.0)
    assert alice.account is not None
    assert bob.account is not None
    assert alice.account.take(BURST, 100.0)
    assert bob.account.take(BURST, 100.0)


def test_a_bucket_is_kept_until_it_would_be_full_again():
    one, other, buckets, now = _two()
    lease = one.open("alice", 100.0)
    assert lease.account is not None
    lease.account.take(BURST, 100.0)
    lease.release()
    lease.release()
    now[0] = 101.0
    again = other.open("alice", 101.0)
    assert again.account is not None
    assert not again.account.take(1001, 101.0)
    again.release()
    # Everybody else gets a place, though all are wanted: none of them is alice's.
    for number in range(buckets.places):
        other.open(f"user {number}", 101.0)
    last = one.open("alice", 101.0)
    assert last.account is not None
    assert not last.account.take(1001, 101.0)


def test_a_dead_process_holds_no_bucket():
    one, other, buckets, now = _two()
    for number in range(200):
        one.open(f"user {number}", now[0])
    buckets.forget(1)
    fresh = [other.open(f"other {number}", now[0]) for number in range(buckets.places // 8)]
    both = [one.open(f"other {number}", now[0]) for number in range(buckets.places // 8)]
    for mine, theirs in zip(fresh, both, strict=True):
        assert mine.account is not None
        assert theirs.account is not None
        assert mine.account.take(BURST, now[0])
        assert not theirs.account.take(1, now[0])


def test_no_limit_is_no_bucket():
    one, _, _, _ = _two(rate=0.0)
    lease = one.open("alice", 100.0)
    assert (lease.account, lease.allocation) == (None, None)
    lease.release()


def test_the_limit_of_an_allocation_is_its_own():
    buckets = SharedBuckets(2, 8, 0.0, 1.0)
    bandwidth = WholeBandwidth(buckets, 1, 70_000.0, 1.0)
    first, second = bandwidth.open("alice", 0.0), bandwidth.open("alice", 0.0)
    assert first.allocation is not None
    assert second.allocation is not None
    assert first.allocation.take(70_000, 0.0)
    assert second.allocation.take(70_000, 0.0)


def test_answers_to_strangers_are_rationed_over_all_processes():
    memory = SharedMemory(8 * 2 * SLOTS).as_doubles()
    one, other = (PrefixRateLimit(10, 30, key=b"the same", memory=memory) for _ in range(2))
    assert sum(limit.allow("192.0.2.1", 5.0) for _ in range(50) for limit in (one, other)) == 30
    assert sum(limit.allow("192.0.2.2", 6.0) for _ in range(50) for limit in (one, other)) == 10
    assert one.allow("198.51.100.1", 6.0)
