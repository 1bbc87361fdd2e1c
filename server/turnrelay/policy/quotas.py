"""AllocationQuotas: how many allocations may live at once. Every share is a lease."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from turnrelay.core.protocols import Lease, Limit
from turnrelay.policy.prefixes import source_prefix

K = TypeVar("K", bound=Hashable)


class AllocationQuotas:
    """Allocations by account, by source prefix (/24, /56) and in total (`core.protocols.Quotas`)."""

    def __init__(self, *, per_user: int, per_prefix: int, total: int) -> None:
        self._per_user = per_user
        self._per_prefix = per_prefix
        self._total = total
        self._by_account: _Counts[str] = _Counts()
        self._by_prefix: _Counts[bytes] = _Counts()
        self._live = 0

    @property
    def live(self) -> int:
        """How many leases are out."""
        return self._live

    def lease_allocation(self, account: str, client_host: str) -> Lease | Limit:
        """One allocation for `account` from `client_host`, or the limit that forbids it."""
        prefix = source_prefix(client_host)
        if self._by_account[account] >= self._per_user:
            return Limit.ALLOCATIONS_PER_USER
        if self._by_prefix[prefix] >= self._per_prefix:
            return Limit.ALLOCATIONS_PER_PREFIX
        if self._live >= self._total:
            return Limit.ALLOCATIONS_TOTAL
        return self._take(account, prefix)

    def take_over(self, account: str, client_host: str) -> Lease:
        """An allocation that another process had leased, whatever the limits are here."""
        return self._take(account, source_prefix(client_host))

    def _take(self, account: str, prefix: bytes) -> Lease:
        self._by_account.add(account)
        self._by_prefix.add(prefix)
        self._live += 1
        return _Share(partial(self._give_back, account, prefix))

    def _give_back(self, account: str, prefix: bytes) -> None:
        self._by_account.remove(account)
        self._by_prefix.remove(prefix)
        self._live -= 1


class _Share:
    """A lease; what it holds goes back once however often it is released."""

    __slots__ = ("_give_back",)

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class _Counts(Generic[K]):
    """How often each key is held. A key that nobody holds is forgotten, so memory follows what lives."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, key: K) -> int:
        return self._counts.get(key, 0)

    def add(self, key: K) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, key: K) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]
