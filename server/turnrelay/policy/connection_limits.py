"""ConnectionLimits: how many TCP, TLS and tunnel connections there may be."""

from collections import Counter

from turnrelay.policy.prefixes import source_prefix


class Place:
    """One place among the connections, held as long as the connection lives."""

    def __init__(self, limits: "ConnectionLimits", prefix: bytes) -> None:
        self._limits: ConnectionLimits | None = limits
        self._prefix = prefix

    def leave(self) -> None:
        """Gives the place back; the second call does nothing."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.left(self._prefix)


class ConnectionLimits:
    """Counts connections in total and by source prefix (/24, /56)."""

    def __init__(self, total: int, per_prefix: int) -> None:
        self._total = total
        self._per_prefix = per_prefix
        self._count = 0
        self._by_prefix: Counter[bytes] = Counter()

    def admit(self, host: str) -> Place | None:
        """A place for a connection from `host`, or None when there are too many already."""
        prefix = source_prefix(host)
        if self._count >= self._total or self._by_prefix.get(prefix, 0) >= self._per_prefix:
            return None
        return self.take_over(host)

    def take_over(self, host: str) -> Place | None:
        """A place for a connection that another process of the relay had let in; None for no room in its
        tables."""
        prefix = source_prefix(host)
        self._count += 1
        self._by_prefix[prefix] += 1
        return Place(self, prefix)

    def left(self, prefix: bytes) -> None:
        """A place for this prefix was given back."""
        self._count -= 1
        self._by_prefix[prefix] -= 1
        if not self._by_prefix[prefix]:
            del self._by_prefix[prefix]
