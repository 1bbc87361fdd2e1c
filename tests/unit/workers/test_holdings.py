"""Limits of the whole relay: counted at once, exactly, and forgotten with the process that held."""

import os
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from turnrelay.core.protocols import Lease, Limit
from turnrelay.workers.holdings import Holdings, SharedCounts
from turnrelay.workers.limits import WholeConnectionLimits, WholeQuotas

MEMBERS, LIMIT = 3, 4
KEYS = [b"alice", b"bob", b"carol"]


class AgainstCounters(RuleBasedStateMachine):
    """The table and a Counter see the same happen; they must agree on every key."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = SharedCounts(MEMBERS, 8)
        self.model: Counter[tuple[int, bytes]] = Counter()

    def total(self, key: bytes) -> int:
        return sum(self.model[member, key] for member in range(MEMBERS))

    @rule(member=st.integers(0, MEMBERS - 1), keys=st.lists(st.sampled_from(KEYS), unique=True, min_size=1))
    def add(self, member, keys):
        full = [index for index, key in enumerate(keys) if self.total(key) >= LIMIT]
        assert self.counts.add(member, [(key, LIMIT) for key in keys]) == (full[0] if full else None)
        if not full:
            self.model.update((member, key) for key in keys)

    @rule(member=st.integers(0, MEMBERS - 1), keys=st.lists(st.sampled_from(KEYS), unique=True, min_size=1))
    def take_over(self, member, keys):
        assert self.counts.take_over(member, keys)
        self.model.update((member, key) for key in keys)

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data())
    def remove(self, data):
        member, key = data.draw(st.sampled_from(sorted(held for held, count in self.model.items() if count)))
        self.counts.remove(member, [key])
        self.model[member, key] -= 1

    @rule(member=st.integers(0, MEMBERS - 1))
    def forget(self, member):
        self.counts.forget(member)
        for key in KEYS:
            self.model[member, key] = 0

    @invariant()
    def agree(self):
        assert [self.counts.count(key) for key in KEYS] == [self.total(key) for key in KEYS]


TestAgainstCounters = AgainstCounters.TestCase


def test_keys_come_and_go_for_ever_in_the_same_memory():
    counts = SharedCounts(2, 16)
    for number in range(10_000):
        key = b"%d" % number
        assert counts.add(1, [(key, 1)]) is None
        counts.remove(1, [key])


def test_two_keys_of_one_request_never_share_a_place():
    # In one set of places, so that the second key looks where the first has just been put.
    holdings = SharedCounts(1, 1)
    for number in range(16):
        assert holdings.add(0, [(b"a%d" % number, 1), (b"b%d" % number, 1)]) is None or number >= 8
    assert [holdings.count(b"%c%d" % (kind, number)) for number in range(8) for kind in b"ab"] == [1] * 16


def test_a_key_without_a_place_is_refused_and_not_let_in_uncounted():
    counts = SharedCounts(1, 1)
    answers = [counts.add(0, [(b"%d" % number, 1)]) for number in range(40)]
    assert answers.count(None) == Holdings(1, 1).places


def _in_processes(work, number: int) -> list[int]:
    """What `work(member)` gives in so many forked processes that run at once; exit statuses, 0 to 255."""
    pids = []
    for member in range(number):
        pid = os.fork()
        if not pid:
            os._exit(work(member))
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def test_processes_together_get_exactly_the_limit():
    counts = SharedCounts(4, 8)
    got = _in_processes(lambda member: sum(counts.add(member, [(b"x", 150)]) is None for _ in range(100)), 4)
    assert sum(got) == 150
    assert counts.count(b"x") == 150


def test_a_lock_ends_with_the_process_that_held_it():
    counts = SharedCounts(2, 8)

    def die_with_the_lock(member: int) -> int:
        counts._holdings.lock.__enter__()
        os.kill(os.getpid(), 9)
        return 0

    assert _in_processes(die_with_the_lock, 1) == [-9]
    assert counts.add(1, [(b"x", 1)]) is None


def _quotas(counts: SharedCounts, member: int) -> WholeQuotas:
    return WholeQuotas(counts, member, per_user=2, per_prefix=3, total=4)


def test_quotas_name_the_limit_that_forbids_wherever_it_was_used_up():
    counts = SharedCounts(3, 16)
    one, other = _quotas(counts, 1), _quotas(counts, 2)
    leases: list[Lease | Limit] = [
        one.lease_allocation("alice", "192.0.2.1"),
        other.lease_allocation("alice", "192.0.2.2"),
    ]
    assert one.lease_allocation("alice", "198.51.100.1") is Limit.ALLOCATIONS_PER_USER
    leases.append(other.lease_allocation("bob", "192.0.2.3"))
    assert one.lease_allocation("carol", "192.0.2.4") is Limit.ALLOCATIONS_PER_PREFIX
    leases.append(one.lease_allocation("carol", "203.0.113.1"))
    assert other.lease_allocation("dave", "203.0.113.2") is Limit.ALLOCATIONS_TOTAL
    assert not any(isinstance(lease, Limit) for lease in leases)


def test_a_lease_is_given_back_once_and_a_refused_one_costs_nothing():
    counts = SharedCounts(3, 16)
    one, other = _quotas(counts, 1), _quotas(counts, 2)
    first, _second = one.lease_allocation("alice", "192.0.2.1"), one.lease_allocation("alice", "192.0.2.1")
    assert not isinstance(first, Limit)
    for _ in range(5):
        assert other.lease_allocation("alice", "192.0.2.1") is Limit.ALLOCATIONS_PER_USER
    first.release()
    first.release()
    assert not isinstance(other.lease_allocation("alice", "192.0.2.1"), Limit)
    assert other.lease_allocation("alice", "192.0.2.1") is Limit.ALLOCATIONS_PER_USER


def test_what_a_dead_worker_held_is_free_again():
    counts = SharedCounts(3, 16)
    one, other = _quotas(counts, 1), _quotas(counts, 2)
    for _ in range(2):
        one.lease_allocation("alice", "192.0.2.1")
    counts.forget(1)
    assert not isinstance(other.lease_allocation("alice", "192.0.2.1"), Limit)


def test_connections_are_counted_over_all_processes():
    counts = SharedCounts(3, 16)
    one, other = (WholeConnectionLimits(counts, member, total=3, per_prefix=2) for member in (1, 2))
    place = one.admit("192.0.2.1")
    assert place is not None
    assert other.admit("192.0.2.2") is not None
    assert other.admit("192.0.2.3") is None
    assert one.admit("198.51.100.1") is not None
    assert other.admit("203.0.113.1") is None
    place.leave()
    place.leave()
    assert other.admit("203.0.113.1") is not None
    assert other.admit("203.0.113.1") is None
