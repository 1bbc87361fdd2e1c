"""What a process had no time to say of its allocations, another one can."""

import os

import pytest
from stunwire import TransportAddress
from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.core.events import AllocationCreated, AllocationEnded, EndReason
from turnrelay.workers.ledger import Bookkeeper, Ledger

LONGEST = "ä\0" * 169 + "x"
PATH = FiveTuple(
    Transport.TLS,
    ServerAddress(TransportAddress("2001:db8:1111:2222:3333:4444:5555:6666", 5349)),
    ClientAddress(TransportAddress("fe80::1111:2222:3333:4444%enp0s31f6", 65535)),
)


def created(number: int, account: str = "alice") -> AllocationCreated:
    return AllocationCreated(f"{number:012x}", PATH, account, (), 600)


def ended(number: int, age: float, reason: EndReason = EndReason.WORKER_LOST, account: str = "alice"):
    return AllocationEnded(f"{number:012x}", PATH, account, reason, age)


@pytest.mark.parametrize("account", ["alice", "", LONGEST])
def test_what_lived_in_a_process_that_was_killed_is_known(account):
    ledger = Ledger(3, 10)
    pid = os.fork()
    if not pid:
        bookkeeper = Bookkeeper(ledger, 2)
        for number in range(5):
            bookkeeper.observe(created(number, account), 100.0 + number)
        bookkeeper.observe(ended(3, 2.0, EndReason.DELETED), 105.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert ledger.take(1, 200.0) == []
    expected = [ended(number, 100.0 - number, account=account) for number in (0, 1, 2, 4)]
    assert sorted(ledger.take(2, 200.0), key=lambda end: end.allocation_id) == expected
    assert ledger.take(2, 201.0) == [], "it is told once"


def test_places_are_used_again_and_too_many_are_left_out():
    ledger = Ledger(1, 2)
    bookkeeper = Bookkeeper(ledger, 0)
    for number in range(50):
        bookkeeper.observe(created(number), 1.0)
        bookkeeper.observe(ended(number, 0.0, EndReason.EXPIRED), 1.0)
    for number in range(3):
        bookkeeper.observe(created(number, LONGEST), 1.0)
    bookkeeper.observe(ended(2, 0.0, EndReason.EXPIRED), 1.0)
    assert {end.allocation_id for end in ledger.take(0, 2.0)} == {f"{number:012x}" for number in range(2)}
