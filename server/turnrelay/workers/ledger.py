"""Ledger: which allocations live in which process of the relay, in memory that outlives the process."""

import struct

from stunwire import TransportAddress

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.core.events import AllocationCreated, AllocationEnded, EndReason, Event
from turnrelay.workers.memory import SharedMemory

_ENTRY_BYTES = 768
"""Enough for an account of 508 bytes, the longest that a USERNAME can hold, and two IPv6 addresses."""
_SIZE = struct.Struct("=H")
_END = b"\0"


class Ledger:
    """Entries by process. A process writes its own; when it is gone, the supervisor reads what it left.

    Written without a lock or a system call: an entry counts from the moment that its size is there.
    """

    def __init__(self, members: int, most_allocations: int) -> None:
        self.places = most_allocations
        self._pages = [SharedMemory(_ENTRY_BYTES * most_allocations).map for _ in range(members)]

    def write(self, member: int, place: int, entry: bytes) -> None:
        page, at = self._pages[member], place * _ENTRY_BYTES
        entry = entry[: _ENTRY_BYTES - _SIZE.size]
        page[at + _SIZE.size : at + _SIZE.size + len(entry)] = entry
        _SIZE.pack_into(page, at, len(entry))

    def strike(self, member: int, place: int) -> None:
        _SIZE.pack_into(self._pages[member], place * _ENTRY_BYTES, 0)

    def take(self, member: int, now: float) -> list[AllocationEnded]:
        """The end of each allocation that a dead process has left, whose entries are struck."""
        page, ends = self._pages[member], list[AllocationEnded]()
        for place in range(self.places):
            at = place * _ENTRY_BYTES
            [size] = _SIZE.unpack_from(page, at)
            if size:
                ends.append(_end(page[at + _SIZE.size : at + _SIZE.size + size], now))
                self.strike(member, place)
        return ends


class Bookkeeper:
    """Writes down what lives in this process: an observer of its core."""

    def __init__(self, ledger: Ledger, member: int) -> None:
        self._ledger = ledger
        self._member = member
        self._free = list(range(ledger.places - 1, -1, -1))
        """The lowest last: pages that were never used take no memory."""
        self._places: dict[str, int] = {}

    def observe(self, event: Event, now: float) -> None:
        """Enters an allocation that began, strikes one that ended."""
        match event:
            case AllocationCreated():
                self.enter(event.allocation_id, event.path, event.account, now)
            case AllocationEnded(allocation_id):
                self.strike(allocation_id)

    def enter(self, allocation_id: str, path: FiveTuple, account: str, created_at: float) -> None:
        if self._free:
            place = self._places[allocation_id] = self._free.pop()
            self._ledger.write(self._member, place, _entry(allocation_id, path, account, created_at))

    def strike(self, allocation_id: str) -> None:
        place = self._places.pop(allocation_id, None)
        if place is not None:
            self._ledger.strike(self._member, place)
            self._free.append(place)


def _entry(allocation_id: str, path: FiveTuple, account: str, created_at: float) -> bytes:
    transport, server, client = path
    fields = (
        allocation_id,
        repr(created_at),
        transport.value,
        server.host,
        str(server.port),
        client.host,
        str(client.port),
        account,  # last: whatever it is made of
    )
    return _END.join(field.encode() for field in fields)


def _end(entry: bytes, now: float) -> AllocationEnded:
    allocation_id, created_at, transport, *pairs, account = (
        field.decode(errors="replace") for field in entry.split(_END, 7)
    )
    server, client = (
        TransportAddress(host, int(port)) for host, port in zip(pairs[::2], pairs[1::2], strict=True)
    )
    path = FiveTuple(Transport(transport), ServerAddress(server), ClientAddress(client))
    return AllocationEnded(allocation_id, path, account, EndReason.WORKER_LOST, now - float(created_at))
