"""Holdings: how many of what each process of the relay holds, by key, in memory that all of them see."""

import hashlib
import secrets
from collections.abc import Sequence

from turnrelay.workers.memory import SharedLock, SharedMemory

_WAYS = 16
"""Places that one key may be in. At a quarter of all places taken, more than so many keys meet with a
probability of one in a million."""
_SPARE = 4
_FINGERPRINT_BYTES = 8
_NO_LIMIT = 1 << 32


def places_for(most_keys: int) -> int:
    """How many places there are for so many keys."""
    sets = 1
    while sets * _WAYS < most_keys * _SPARE:
        sets *= 2
    return sets * _WAYS


class Holdings:
    """Counts by key and process. What a dead process held is forgotten in one stroke.

    A key is known by its keyed hash, which says where it may be, too; so memory never grows. Nothing is
    evicted: where all places of a key are taken, it gets none. All methods but the constructor's are to be
    called with the lock held.
    """

    def __init__(self, members: int, most_keys: int) -> None:
        """For `members` processes and at most `most_keys` keys at a time."""
        self.places = places_for(most_keys)
        self.lock = SharedLock()
        self._mask = self.places // _WAYS - 1
        self._secret = secrets.token_bytes(16)
        self._keys = SharedMemory(8 * self.places).as_integers("Q")
        self._counts = [SharedMemory(4 * self.places).as_integers("I") for _ in range(members)]

    def find(self, key: bytes) -> int | None:
        """The place of a key, None if it has none."""
        fingerprint, first = self._where(key)
        for place, found in enumerate(self._keys[first : first + _WAYS], first):
            if found == fingerprint:
                return place
        return None

    def place_for(self, key: bytes) -> tuple[int, bool] | None:
        """The place of a key and whether it is new there; None if there is no room."""
        place = self.find(key)
        if place is not None:
            return place, False
        fingerprint, first = self._where(key)
        for place in range(first, first + _WAYS):
            if not self._keys[place] or (not self.held(place) and self.is_over(place)):
                self._keys[place] = fingerprint
                return place, True
        return None

    def is_over(self, place: int) -> bool:
        """Whether the place of a key that nobody holds may be given to another one."""
        return True

    def held(self, place: int) -> int:
        """How many all processes hold together."""
        return sum(counts[place] for counts in self._counts)

    def hold(self, place: int, member: int) -> None:
        self._counts[member][place] += 1

    def let_go(self, place: int, member: int) -> None:
        self._counts[member][place] -= 1

    def forget(self, member: int) -> None:
        """The process is gone, with all that it held."""
        counts = self._counts[member].cast("B")
        counts[:] = bytes(len(counts))

    def _where(self, key: bytes) -> tuple[int, int]:
        """The fingerprint of a key, and the first of the places that it may be in."""
        digest = hashlib.blake2b(key, digest_size=_FINGERPRINT_BYTES, key=self._secret).digest()
        fingerprint = int.from_bytes(digest, "little") | 1  # never 0, which marks a free place
        return fingerprint, (fingerprint >> 1 & self._mask) * _WAYS


class SharedCounts:
    """Limits on how many of something the whole relay may hold, counted at once and exactly."""

    def __init__(self, members: int, most_keys: int) -> None:
        self._holdings = Holdings(members, most_keys)

    def add(self, member: int, wanted: Sequence[tuple[bytes, int]]) -> int | None:
        """Adds one to every (key, limit), or to none: then the index of the first that was at its limit."""
        holdings, places = self._holdings, list[int]()
        with holdings.lock:
            for index, (key, limit) in enumerate(wanted):
                found = holdings.place_for(key)
                if found is None or holdings.held(found[0]) >= limit:
                    for place in places:
                        holdings.let_go(place, member)
                    return index
                # At once: a place that nobody holds may be given to the next key.
                holdings.hold(found[0], member)
                places.append(found[0])
        return None

    def take_over(self, member: int, keys: Sequence[bytes]) -> bool:
        """Adds one to every key, whatever the limits: another process gives as much up. False, and none was
        added, where there is no room for a key."""
        return self.add(member, [(key, _NO_LIMIT) for key in keys]) is None

    def remove(self, member: int, keys: Sequence[bytes]) -> None:
        """Takes one from every key."""
        holdings = self._holdings
        with holdings.lock:
            for key in keys:
                place = holdings.find(key)
                assert place is not None, "what is held has a place"
                holdings.let_go(place, member)

    def count(self, key: bytes) -> int:
        with self._holdings.lock:
            place = self._holdings.find(key)
            return 0 if place is None else self._holdings.held(place)

    def forget(self, member: int) -> None:
        """The process is gone, with all that it held."""
        with self._holdings.lock:
            self._holdings.forget(member)
