"""BandwidthLimits: bytes a second for one allocation and for all allocations of one account together."""

from collections import OrderedDict
from dataclasses import dataclass

from turnrelay.core.token_bucket import TokenBucket

SMALLEST_BURST = 65_536.0
"""Bytes; below the largest datagram a bucket would never let that datagram pass."""


@dataclass(slots=True)
class _Account:
    bucket: TokenBucket
    leases: int = 0


class Bandwidth:
    """The buckets that an allocation's bytes have to pass, held as long as the allocation lives.

    `allocation` and `account` are None where no limit is set.
    """

    __slots__ = ("_limits", "_name", "account", "allocation")

    def __init__(
        self,
        limits: "BandwidthLimits",
        name: str,
        allocation: TokenBucket | None,
        account: TokenBucket | None,
    ) -> None:
        self._limits: BandwidthLimits | None = limits
        self._name = name
        self.allocation = allocation
        self.account = account

    def release(self) -> None:
        """Ends the lease; the second call does nothing."""
        limits, self._limits = self._limits, None
        if limits is not None and self.account is not None:
            limits._give_back(self._name)


class BandwidthLimits:
    """Opens buckets for allocations; all live allocations of one account share one bucket.

    The bucket of an account without allocations is kept until it would be full again: deleting it sooner
    would let a client refill it at will by closing its allocation and opening another.
    """

    def __init__(
        self, rate_per_allocation: float, rate_per_account: float, burst_seconds: float = 1.0
    ) -> None:
        """Rates are bytes a second, 0 for no limit; bursts are what the rate gives in `burst_seconds`."""
        self._rate_per_allocation = rate_per_allocation
        self._rate_per_account = rate_per_account
        self._burst_seconds = burst_seconds
        self._accounts: dict[str, _Account] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """Accounts without a lease, in the order in which they lost the last one.

        Not a dict: to find the first key of a dict takes a walk over all that were deleted before it.
        """

    def __len__(self) -> int:
        """How many accounts have a bucket."""
        return len(self._accounts)

    def open(self, account: str, now: float) -> Bandwidth:
        """The buckets for a new allocation of `account`."""
        own = self._bucket(self._rate_per_allocation, now)
        if not self._rate_per_account:
            return Bandwidth(self, account, own, None)
        self._forget_full(now)
        entry = self._accounts.get(account)
        if entry is None:
            bucket = TokenBucket(self._rate_per_account, self._burst(self._rate_per_account), now)
            entry = self._accounts[account] = _Account(bucket)
        entry.leases += 1
        self._idle.pop(account, None)
        return Bandwidth(self, account, own, entry.bucket)

    def _bucket(self, rate: float, now: float) -> TokenBucket | None:
        return TokenBucket(rate, self._burst(rate), now) if rate else None

    def _burst(self, rate: float) -> float:
        return max(rate * self._burst_seconds, SMALLEST_BURST)

    def _give_back(self, account: str) -> None:
        entry = self._accounts[account]
        entry.leases -= 1
        if not entry.leases:
            self._idle[account] = None

    def _forget_full(self, now: float) -> None:
        """Drops the buckets of idle accounts that have filled up, the longest idle first.

        At most two a call: each call adds at most one account, so the idle ones still run out.
        """
        for _ in range(2):
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return
            bucket = self._accounts[oldest].bucket
            if bucket.level + (now - bucket.updated_at) * bucket.rate < bucket.burst:
                return
            del self._idle[oldest], self._accounts[oldest]
