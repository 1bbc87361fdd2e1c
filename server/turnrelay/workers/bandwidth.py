"""SharedBuckets: one bucket of bytes for each account, that all processes of the relay spend from."""

import time
from collections.abc import Callable

from turnrelay.core.token_bucket import TokenBucket
from turnrelay.policy.bandwidth import SMALLEST_BURST
from turnrelay.relay.plane import Bandwidth
from turnrelay.workers.holdings import Holdings
from turnrelay.workers.memory import SharedMemory

_DOUBLES = 4


class SharedBuckets(Holdings):
    """Where the buckets are. The data path spends from them without the lock.

    Two processes that spend from one bucket in the same instant may count only one of the two packets (ADR 6
    has figures). That is the price of no system call for a packet.

    The bucket of an account without allocations is kept until it would be full again: giving it away sooner
    would let a client refill it at will by closing its allocation and opening another.
    """

    def __init__(
        self,
        members: int,
        most_accounts: int,
        rate: float,
        burst_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(members, most_accounts)
        self.rate = rate
        self.burst = max(rate * burst_seconds, SMALLEST_BURST)
        self._clock = clock
        self._doubles = SharedMemory(8 * _DOUBLES * self.places).as_doubles()

    def is_over(self, place: int) -> bool:
        rate, burst, level, updated_at = self._state(place)
        return level + (self._clock() - updated_at) * rate >= burst

    def open(self, account: str, member: int, now: float) -> tuple[TokenBucket, int | None]:
        """The bucket of an account, and its place to give back; None for a bucket that nobody shares."""
        with self.lock:
            found = self.place_for(account.encode())
            if found is None:  # which takes four times as many accounts as there may be allocations
                return TokenBucket(self.rate, self.burst, now), None
            place, is_new = found
            if is_new:
                self.fill(place, now)
            self.hold(place, member)
        return self.bucket(place, now), place

    def fill(self, place: int, now: float) -> None:
        self._state(place)[:] = memoryview(TokenBucket(self.rate, self.burst, now).state)

    def bucket(self, place: int, now: float) -> TokenBucket:
        return TokenBucket.over(self._state(place))

    def _state(self, place: int) -> "memoryview[float]":
        return self._doubles[_DOUBLES * place : _DOUBLES * (place + 1)]


class WholeBandwidth:
    """The limits of policy/bandwidth.py over all processes (`relay.plane.BandwidthPolicy`)."""

    def __init__(
        self, buckets: SharedBuckets, member: int, rate_per_allocation: float, burst_seconds: float
    ) -> None:
        """Rates are bytes a second, 0 for no limit."""
        self._buckets = buckets
        self._member = member
        self._rate = rate_per_allocation
        self._burst = max(rate_per_allocation * burst_seconds, SMALLEST_BURST)

    def open(self, account: str, now: float) -> Bandwidth:
        """The buckets for a new relayed address of `account`."""
        own = TokenBucket(self._rate, self._burst, now) if self._rate else None
        if not self._buckets.rate:
            return _Lease(self._buckets, self._member, own, None, None)
        shared, place = self._buckets.open(account, self._member, now)
        return _Lease(self._buckets, self._member, own, shared, place)


class _Lease:
    """The buckets that a relayed address' bytes have to pass, held as long as it lives."""

    __slots__ = ("_buckets", "_member", "_place", "account", "allocation")

    def __init__(
        self,
        buckets: SharedBuckets,
        member: int,
        allocation: TokenBucket | None,
        account: TokenBucket | None,
        place: int | None,
    ) -> None:
        self._buckets = buckets
        self._member = member
        self._place = place
        self.allocation = allocation
        self.account = account

    def release(self) -> None:
        """Ends the lease; the second call does nothing."""
        place, self._place = self._place, None
        if place is not None:
            with self._buckets.lock:
                self._buckets.let_go(place, self._member)
