"""SharedKernel: the kernel plane of a relay of several processes, attached once, before they are forked."""

import ctypes
from collections.abc import Callable

from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.kernel.attachments import Attachments
from turnrelay.relay.kernel.bucket_array import BucketArray
from turnrelay.relay.kernel.buckets import SharedBucket
from turnrelay.relay.kernel.layouts import LegKey
from turnrelay.relay.kernel.share import KernelShare
from turnrelay.settings import Settings
from turnrelay.workers.bandwidth import SharedBuckets
from turnrelay.workers.holdings import places_for
from turnrelay.workers.memory import SharedMemory

_KEY_BYTES = ctypes.sizeof(LegKey)
_NO_KEY = bytes(_KEY_BYTES)


def account_buckets(settings: Settings, relay_addresses: int) -> int:
    """How many buckets the maps need for limits that all processes count together."""
    if settings.worker_processes == 1 or not settings.limits.bandwidth_per_user:
        return 0
    return places_for(settings.allocations_total(relay_addresses))


class SharedKernel:
    """The maps, in equal parts for all workers, and which keys each has written.

    The programs look flows up and know nothing of processes. A worker writes its own flows into the maps, and
    notes their keys where the supervisor finds them when the worker is gone. The supervisor serves no UDP
    clients; it tells what the programs count.
    """

    def __init__(self, attachments: Attachments, workers: int, accounts: int) -> None:
        """The last `accounts` buckets belong to all processes."""
        self.attachments = attachments
        self._workers = workers
        self._slots = attachments.kernel.counters.max_entries
        self._buckets = attachments.kernel.buckets.max_entries - accounts
        self._notes = SharedMemory(_KEY_BYTES * self._slots).map

    def share(self, member: int) -> KernelShare:
        """Of a worker, or of the supervisor, which has the number 0."""
        if not member:
            return KernelShare((), ())
        pairs, buckets = self._slots // 2 // self._workers, (self._buckets - 1) // self._workers
        first, bucket = 2 * pairs * (member - 1), 1 + buckets * (member - 1)
        slots = range(first, first + 2 * pairs, 2)
        return KernelShare(slots, range(bucket, bucket + buckets), False, self._note)

    def forget(self, member: int) -> None:
        """A worker is gone; its flows end."""
        slots = self.share(member).slots
        for slot in range(slots[0], slots[-1] + 2) if slots else ():
            noted = self._notes[slot * _KEY_BYTES : (slot + 1) * _KEY_BYTES]
            if noted != _NO_KEY:
                self.attachments.kernel.legs.delete(LegKey.from_buffer_copy(noted))
                self._note(slot, None)

    def _note(self, slot: int, key: LegKey | None) -> None:
        at = slot * _KEY_BYTES
        self._notes[at : at + _KEY_BYTES] = _NO_KEY if key is None else bytes(key)


class KernelBuckets(SharedBuckets):
    """One bucket for each account, in the map, that all processes and the programs spend from.

    What several spend in the same instant is counted for each.
    """

    def __init__(
        self,
        entries: BucketArray,
        members: int,
        most_accounts: int,
        rate: float,
        burst_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(members, most_accounts, rate, burst_seconds, clock)
        self._entries = entries
        self._first = entries.max_entries - self.places

    def is_over(self, place: int) -> bool:
        now = self._clock()
        return self.bucket(place, now).is_full(now)

    def fill(self, place: int, now: float) -> None:
        SharedBucket(TokenBucket(self.rate, self.burst, now), self._first + place, self._entries, now)

    def bucket(self, place: int, now: float) -> SharedBucket:
        return SharedBucket.of_all(self.rate, self.burst, self._first + place, self._entries, now)
