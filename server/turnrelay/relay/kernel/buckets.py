"""Bandwidth limits that hold across both planes: one bucket, spent from by the process and in the kernel."""

from collections.abc import Callable, Sequence

from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.kernel.layouts import Bucket
from turnrelay.relay.kernel.maps import SharedArray
from turnrelay.relay.plane import Bandwidth, BandwidthPolicy

_MIB = 1 << 20
_SECOND = 1_000_000_000
_SLOWEST = 1 << 47
"""Nanoseconds a MiB; above, the cost of the largest datagram would overflow. Less than 8 bytes a second."""


class SharedBucket(TokenBucket):
    """A TokenBucket whose level lies in the map."""

    __slots__ = ("_entry", "index")

    def __init__(self, original: TokenBucket, index: int, entry: Bucket, now: float) -> None:
        super().__init__(original.rate, original.burst, now)
        self.index = index
        self._entry = entry
        entry.ns_per_mib = min(int(_MIB * _SECOND / original.rate), _SLOWEST)
        entry.burst_ns = int(original.burst * entry.ns_per_mib) >> 20
        self.fill_to(original.level_at(now), now)

    def level_at(self, now: float) -> float:
        missing_ns = self._paid_at(int(now * _SECOND)) - int(now * _SECOND)
        return self.burst - missing_ns * self.rate / _SECOND

    def fill_to(self, level: float, now: float) -> None:
        entry = self._entry
        missing_ns = int(max(self.burst - level, 0.0) * entry.ns_per_mib) >> 20
        entry.process_moved_ns = entry.process_ns
        entry.paid_at_ns = max(int(now * _SECOND) + missing_ns, 0)

    @classmethod
    def of_all(cls, rate: float, burst: float, index: int, entry: Bucket, now: float) -> "SharedBucket":
        """One that other processes spend from, too; its level is what they left."""
        bucket = cls.__new__(cls)
        TokenBucket.__init__(bucket, rate, burst, now)
        bucket.index, bucket._entry = index, entry
        return bucket

    def take(self, amount: float, now: float) -> bool:
        entry, now_ns = self._entry, int(now * _SECOND)
        cost = int(amount) * entry.ns_per_mib >> 20
        if self._paid_at(now_ns) + cost - now_ns > entry.burst_ns:
            return False
        # Only the programs write the other words: nothing that they add is lost.
        entry.process_ns += cost
        return True

    def is_full(self, now: float) -> bool:
        """Whether all that was admitted is paid for."""
        now_ns = int(now * _SECOND)
        return self._paid_at(now_ns) <= now_ns

    def write_back(self, original: TokenBucket, now: float) -> None:
        """Leaves the level in the bucket that this one stands for."""
        original.fill_to(self.level_at(now), now)

    def _paid_at(self, now_ns: int) -> int:
        entry = self._entry
        owed: int = entry.process_ns - entry.process_moved_ns
        paid_at: int = entry.paid_at_ns
        return max(paid_at, now_ns) + owed


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
        entries: SharedArray[Bucket],
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
            self._entries.at(index).process_ns = self._entries.at(index).process_moved_ns = 0
            bucket = SharedBucket(original, index, self._entries.at(index), now)
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
