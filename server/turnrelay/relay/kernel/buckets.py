"""Bandwidth limits that hold across both planes: one bucket, spent from by the process and in the kernel."""

import math
from collections.abc import Callable, Sequence

from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.kernel.bucket_array import BucketArray
from turnrelay.relay.plane import Bandwidth, BandwidthPolicy

_MIB = 1 << 20
_SECOND = 1_000_000_000
_PORTIONS, _LARGEST_PORTION = 64, 16_384
"""What a process takes at once: such a part of a burst, and no more bytes."""
_SLOWEST = 1 << 47
"""Nanoseconds a MiB; above, the cost of the largest datagram would overflow. Less than 8 bytes a second."""


class SharedBucket(TokenBucket):
    """A TokenBucket whose level lies in the map.

    What it takes is taken in portions, so that not each packet costs a system call. What is left of the last
    one is its own to spend, so a relayed address may send a portion more than its bucket's burst.
    """

    __slots__ = ("_entries", "_entry", "_left", "_portion", "index")

    def __init__(self, original: TokenBucket, index: int, entries: BucketArray, now: float) -> None:
        self._stand_for(original.rate, original.burst, index, entries, now)
        entry = self._entry
        entry.ns_per_mib = min(int(_MIB * _SECOND / original.rate), _SLOWEST)
        entry.burst_ns = int(original.burst * entry.ns_per_mib) >> 20
        self.fill_to(original.level_at(now), now)

    @classmethod
    def of_all(
        cls, rate: float, burst: float, index: int, entries: BucketArray, now: float
    ) -> "SharedBucket":
        """One that other processes spend from, too; its level is what they left."""
        bucket = cls.__new__(cls)
        bucket._stand_for(rate, burst, index, entries, now)
        return bucket

    def _stand_for(self, rate: float, burst: float, index: int, entries: BucketArray, now: float) -> None:
        TokenBucket.__init__(self, rate, burst, now)
        self.index = index
        self._entries, self._entry = entries, entries.at(index)
        self._left, self._portion = 0.0, min(burst // _PORTIONS, _LARGEST_PORTION)

    def level_at(self, now: float) -> float:
        return self._left + self.burst - self._missing_ns(now) * self.rate / _SECOND

    def fill_to(self, level: float, now: float) -> None:
        missing_ns = int(max(self.burst - level, 0.0) * self._entry.ns_per_mib) >> 20
        self._left = 0.0
        self._entry.paid_at_ns = max(int(now * _SECOND) + missing_ns, 0)

    def take(self, amount: float, now: float) -> bool:
        if amount > self._left:
            missing, now_ns = amount - self._left, int(now * _SECOND)
            portion = max(missing, self._portion)
            if not self._spend(portion, now_ns):
                portion = missing
                if not self._spend(portion, now_ns):
                    return False
            self._left += portion
        self._left -= amount
        return True

    def give_back(self, amount: float) -> None:
        self._left += amount

    def is_full(self, now: float) -> bool:
        """Whether all that was admitted is paid for."""
        return not self._missing_ns(now)

    def write_back(self, original: TokenBucket, now: float) -> None:
        """Leaves the level in the bucket that this one stands for."""
        original.fill_to(self.level_at(now), now)

    def _spend(self, amount: float, now_ns: int) -> bool:
        return self._entries.spend(self.index, math.ceil(amount) * self._entry.ns_per_mib >> 20, now_ns)

    def _missing_ns(self, now: float) -> int:
        paid_at: int = self._entry.paid_at_ns
        return max(paid_at - int(now * _SECOND), 0)


class _Held:
    __slots__ = ("bucket", "holders", "original")

    def __init__(self, original: TokenBucket, bucket: SharedBucket) -> None:
        self.original = original
        self.bucket = bucket
        self.holders = 0


class KernelBandwidth:
    """A BandwidthPolicy whose buckets the programs can spend from. The policy behind it makes the rules."""

    def __init__(
        self,
        policy: BandwidthPolicy,
        entries: BucketArray,
        clock: Callable[[], float],
        numbers: Sequence[int] | None = None,
    ) -> None:
        """`numbers` are those of the buckets that belong to this process, None for all."""
        self._policy = policy
        self._entries = entries
        self._clock = clock
        self._free = list(reversed(range(1, entries.max_entries) if numbers is None else numbers))
        self._held: dict[int, _Held] = {}
        """By the identity of the policy's bucket, which lives as long as it is held."""

    def open(self, account: str, now: float) -> "SharedBandwidth":
        bandwidth = self._policy.open(account, now)
        return SharedBandwidth(
            self, bandwidth, self._take(bandwidth.allocation, now), self._take(bandwidth.account, now)
        )

    def _take(self, original: TokenBucket | None, now: float) -> TokenBucket | None:
        if original is None or isinstance(original, SharedBucket):
            return original
        held = self._held.get(id(original))
        if held is None:
            if not self._free:
                return original  # the limit holds; its flows stay in userspace
            index = self._free.pop()
            bucket = SharedBucket(original, index, self._entries, now)
            held = self._held[id(original)] = _Held(original, bucket)
        held.holders += 1
        return held.bucket

    def give_back(self, original: TokenBucket | None) -> None:
        held = self._held.get(id(original))
        if held is None:
            return
        held.holders -= 1
        if not held.holders:
            del self._held[id(original)]
            held.bucket.write_back(held.original, self._clock())
            self._free.append(held.bucket.index)


class SharedBandwidth:
    """The buckets of one relayed address."""

    __slots__ = ("_original", "_owner", "account", "allocation")

    def __init__(
        self,
        owner: KernelBandwidth,
        original: Bandwidth,
        allocation: TokenBucket | None,
        account: TokenBucket | None,
    ) -> None:
        self._owner: KernelBandwidth | None = owner
        self._original = original
        self.allocation = allocation
        self.account = account

    def release(self) -> None:
        """Ends the lease; the second call does nothing."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        for bucket, original in (
            (self.allocation, self._original.allocation),
            (self.account, self._original.account),
        ):
            if isinstance(bucket, SharedBucket):
                owner.give_back(original)
        self._original.release()


def bucket_index(bucket: TokenBucket | None) -> int | None:
    """The bucket's number for a leg, 0 for no limit; None if the programs cannot see it."""
    if bucket is None:
        return 0
    return bucket.index if isinstance(bucket, SharedBucket) else None
