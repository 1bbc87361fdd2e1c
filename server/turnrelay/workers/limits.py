"""The limits of policy/, for the whole relay: as many processes as there are spend from the same."""

import sys
from collections.abc import Sequence

from turnrelay.core.protocols import Lease, Limit
from turnrelay.policy.connection_limits import ConnectionLimits, Place
from turnrelay.policy.prefixes import source_prefix
from turnrelay.workers.holdings import SharedCounts

_TOTAL = b"t"


class WholeQuotas:
    """Allocations by account, by source prefix and in total (`core.protocols.Quotas`)."""

    def __init__(
        self, counts: SharedCounts, member: int, *, per_user: int, per_prefix: int, total: int
    ) -> None:
        self._counts = counts
        self._member = member
        self._limits = (per_user, per_prefix, total)

    def lease_allocation(self, account: str, client_host: str) -> Lease | Limit:
        """One allocation for `account` from `client_host`, or the limit that forbids it."""
        keys = _keys(account, client_host)
        reached = self._counts.add(self._member, list(zip(keys, self._limits, strict=True)))
        return _Share(self._counts, self._member, keys) if reached is None else _IN_ORDER[reached]

    def take_over(self, account: str, client_host: str) -> Lease:
        """An allocation that another process had leased, whatever the limits are here."""
        keys = _keys(account, client_host)
        counted = self._counts.add(self._member, [(key, sys.maxsize) for key in keys]) is None
        return _Share(self._counts, self._member, keys if counted else ())


def take_over_allocation(counts: SharedCounts, member: int, account: str, client_host: str) -> Lease:
    """A lease of the allocation that another process gives up for this one, which is paid for already."""
    keys = _keys(account, client_host)
    return _Share(counts, member, keys if counts.take_over(member, keys) else ())


def _keys(account: str, client_host: str) -> tuple[bytes, ...]:
    return b"u" + account.encode(), b"p" + source_prefix(client_host), _TOTAL


_IN_ORDER = (Limit.ALLOCATIONS_PER_USER, Limit.ALLOCATIONS_PER_PREFIX, Limit.ALLOCATIONS_TOTAL)


class _Share:
    """A lease; what it holds goes back once however often it is released."""

    __slots__ = ("_counts", "_keys", "_member")

    def __init__(self, counts: SharedCounts, member: int, keys: Sequence[bytes]) -> None:
        self._counts = counts
        self._member = member
        self._keys = keys

    def release(self) -> None:
        keys, self._keys = self._keys, ()
        if keys:
            self._counts.remove(self._member, keys)


class WholeConnectionLimits(ConnectionLimits):
    """TCP, TLS and tunnel connections in total and by source prefix."""

    def __init__(self, counts: SharedCounts, member: int, total: int, per_prefix: int) -> None:
        super().__init__(total, per_prefix)
        self._counts = counts
        self._member = member
        self._limits = (total, per_prefix)

    def admit(self, host: str) -> Place | None:
        prefix = source_prefix(host)
        total, per_prefix = self._limits
        wanted = [(_TOTAL, total), (b"p" + prefix, per_prefix)]
        return Place(self, prefix) if self._counts.add(self._member, wanted) is None else None

    def take_over(self, host: str) -> Place | None:
        prefix = source_prefix(host)
        keys = (_TOTAL, b"p" + prefix)
        return Place(self, prefix) if self._counts.take_over(self._member, keys) else None

    def left(self, prefix: bytes) -> None:
        self._counts.remove(self._member, [_TOTAL, b"p" + prefix])
