"""ConnectionLimits: how many TCP and TLS connections there may be."""

from collections import Counter

from turnrelay.policy.prefixes import source_prefix


class ConnectionLimits:
    """Counts streams in total and by source prefix (/24, /56)."""

    def __init__(self, total: int, per_prefix: int) -> None:
        self._total = total
        self._per_prefix = per_prefix
        self._count = 0
        self._by_prefix: Counter[bytes] = Counter()

    def admit(self, host: str) -> bytes | None:
        """A token to give back with `leave`, or None when there are too many already."""
        prefix = source_prefix(host)
        if self._count >= self._total or self._by_prefix.get(prefix, 0) >= self._per_prefix:
            return None
        self._count += 1
        self._by_prefix[prefix] += 1
        return prefix

    def leave(self, prefix: bytes) -> None:
        """The connection that `admit` gave this token to is closed."""
        self._count -= 1
        self._by_prefix[prefix] -= 1
        if not self._by_prefix[prefix]:
            del self._by_prefix[prefix]
