"""KeyQueue: requests that wait for the user database, and whose turn it is."""

from collections import deque

from turnrelay.core.outputs import FetchKey
from turnrelay.policy.prefixes import source_prefix

_PLACES = 4096


class KeyQueue:
    """Users of allocations come first, then a request of each source prefix in turn. Strangers have so many
    places, and where all are taken, the prefix that has most of them loses one. So whoever makes up names
    keeps his own prefix waiting, and nobody else.
    """

    def __init__(self, places: int = _PLACES) -> None:
        self._users: deque[tuple[FetchKey, float]] = deque()
        self._strangers: dict[bytes, deque[tuple[FetchKey, float]]] = {}
        """The prefix whose turn it is comes first."""
        self._by_length: dict[int, dict[bytes, None]] = {}
        """The prefixes by how many of theirs wait: of all the places, no more than 90 different numbers."""
        self._left = places

    def add(self, fetch: FetchKey, asked_at: float) -> FetchKey | None:
        """`asked_at` is when the request was read. Returns what has no place any more, if anything."""
        if fetch.stranger is None:
            self._users.append((fetch, asked_at))
            return None
        prefix = source_prefix(fetch.stranger)
        waiting = self._strangers.setdefault(prefix, deque())
        waiting.append((fetch, asked_at))
        self._count(prefix, len(waiting) - 1, len(waiting))
        self._left -= 1
        if self._left >= 0:
            return None
        prefix = next(reversed(self._by_length[max(self._by_length)]))
        waiting = self._strangers[prefix]
        lost, _ = waiting.pop()
        self._count(prefix, len(waiting) + 1, len(waiting))
        if not waiting:
            del self._strangers[prefix]
        self._left += 1
        return lost

    def take(self) -> tuple[FetchKey, float] | None:
        """The next one, None if nobody waits."""
        if self._users:
            return self._users.popleft()
        if not self._strangers:
            return None
        prefix = next(iter(self._strangers))
        waiting = self._strangers.pop(prefix)
        taken = waiting.popleft()
        self._count(prefix, len(waiting) + 1, len(waiting))
        if waiting:
            self._strangers[prefix] = waiting  # behind all the others
        self._left += 1
        return taken

    def _count(self, prefix: bytes, before: int, now: int) -> None:
        """So many of the prefix wait now, none is 0."""
        if before:
            others = self._by_length[before]
            del others[prefix]
            if not others:
                del self._by_length[before]
        if now:
            self._by_length.setdefault(now, {})[prefix] = None
