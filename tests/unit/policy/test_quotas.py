"""Quotas are leases: counted while held, gone without a trace afterwards."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from turnrelay.core.protocols import Lease, Limit
from turnrelay.policy.prefixes import source_prefix
from turnrelay.policy.quotas import AllocationQuotas


def lease(quotas: AllocationQuotas, account: str = "alice", host: str = "192.0.2.1") -> Lease:
    granted = quotas.lease_allocation(account, host)
    assert not isinstance(granted, Limit)
    return granted


@pytest.mark.parametrize(
    ("figures", "account", "host", "limit"),
    [
        ({"per_user": 1}, "alice", "198.51.100.1", Limit.ALLOCATIONS_PER_USER),
        ({"per_prefix": 1}, "bob", "192.0.2.99", Limit.ALLOCATIONS_PER_PREFIX),
        ({"per_prefix": 1}, "bob", "::ffff:192.0.2.99", Limit.ALLOCATIONS_PER_PREFIX),
        ({"total": 1}, "bob", "198.51.100.1", Limit.ALLOCATIONS_TOTAL),
    ],
)
def test_each_limit_forbids_the_second_allocation(figures, account, host, limit):
    quotas = AllocationQuotas(**{"per_user": 9, "per_prefix": 9, "total": 9} | figures)
    first = lease(quotas)
    assert quotas.lease_allocation(account, host) is limit
    first.release()
    lease(quotas, account, host)


def test_a_lease_is_given_back_once():
    quotas = AllocationQuotas(per_user=2, per_prefix=2, total=2)
    first, _second = lease(quotas), lease(quotas)
    first.release()
    first.release()
    lease(quotas)
    assert quotas.lease_allocation("alice", "192.0.2.1") is Limit.ALLOCATIONS_PER_USER


def test_a_refused_lease_costs_nothing():
    quotas = AllocationQuotas(per_user=5, per_prefix=1, total=5)
    held = lease(quotas)
    for _ in range(20):
        quotas.lease_allocation("alice", "192.0.2.1")
    held.release()
    assert quotas.live == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("192.0.2.1", "::ffff:192.0.2.7", True),
        ("2001:db8:0:1::1", "2001:db8:0:ff:ffff::1", True),
        ("2001:db8:0:100::1", "2001:db8:0:1ff::1", True),
        ("2001:db8:0:1::1", "2001:db8:0:100::1", False),
        ("fe80::1%eth0", "fe80::2%2", True),
    ],
)
def test_source_prefixes(one, other, same):
    assert (source_prefix(one) == source_prefix(other)) is same


@pytest.mark.parametrize("host", ["", "example.org", "1.2.3", "::g"])
def test_a_prefix_needs_a_numeric_host(host):
    with pytest.raises(ValueError, match="no numeric host"):
        source_prefix(host)


class Leases(RuleBasedStateMachine):
    """Any order of leasing and releasing: the counts are those of the leases out, never more or fewer."""

    held: list[tuple[str, bytes, Lease]]

    @initialize()
    def start(self):
        self.quotas = AllocationQuotas(per_user=3, per_prefix=4, total=7)
        self.held = []
        self.ended: list[Lease] = []

    @rule(account=st.sampled_from("abcd"), host=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "::1"]))
    def lease(self, account, host):
        granted = self.quotas.lease_allocation(account, host)
        prefix = source_prefix(host)
        by_account = sum(held[0] == account for held in self.held)
        by_prefix = sum(held[1] == prefix for held in self.held)
        if by_account >= 3:
            assert granted is Limit.ALLOCATIONS_PER_USER
        elif by_prefix >= 4:
            assert granted is Limit.ALLOCATIONS_PER_PREFIX
        elif len(self.held) >= 7:
            assert granted is Limit.ALLOCATIONS_TOTAL
        else:
            assert not isinstance(granted, Limit)
            self.held.append((account, prefix, granted))

    @rule(which=st.integers(0, 6))
    def release(self, which):
        if which < len(self.held):
            self.ended.append(self.held.pop(which)[2])
            self.ended[-1].release()

    @rule()
    def release_again(self):
        for ended in self.ended:
            ended.release()

    @invariant()
    def nothing_leaks(self):
        if not hasattr(self, "quotas"):
            return
        assert self.quotas.live == len(self.held)
        assert len(self.quotas._by_account) == len({account for account, _, _ in self.held})
        assert len(self.quotas._by_prefix) == len({prefix for _, prefix, _ in self.held})


TestLeases = Leases.TestCase
