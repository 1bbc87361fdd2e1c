"""Who waits for a key, and for how long: users of allocations first, then the source prefixes in turn."""

import sys
from collections import Counter
from random import Random

import pytest
from turnrelay.core.outputs import FetchKey
from turnrelay.core.protocols import KeyQuery
from turnrelay.transports.key_queue import KeyQueue


def fetch(ticket: int, stranger: str | None) -> FetchKey:
    return FetchKey(ticket, KeyQuery(username=f"user{ticket}"), stranger)


def order(queue: KeyQueue) -> list[int]:
    taken = []
    while (each := queue.take()) is not None:
        taken.append(each[0].ticket)
    return taken


def test_who_comes_first_is_served_first_and_his_time_is_kept():
    queue = KeyQueue()
    for ticket in range(3):
        queue.add(fetch(ticket, "192.0.2.1"), asked_at=10.0 + ticket)
    taken = [queue.take() for _ in range(3)]
    assert [(each.ticket, asked_at) for each, asked_at in taken] == [(0, 10.0), (1, 11.0), (2, 12.0)]
    assert queue.take() is None


def test_prefixes_have_their_turns():
    queue = KeyQueue()
    hosts = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "198.51.100.1"]
    for ticket, host in enumerate(hosts):
        queue.add(fetch(ticket, host), 0)
    assert order(queue) == [0, 3, 4, 1, 5, 2]


def test_who_comes_between_waits_for_one_of_each_prefix_at_most():
    queue = KeyQueue()
    for ticket in range(100):
        queue.add(fetch(ticket, f"192.0.{ticket % 2}.1"), 0)
    queue.take()
    queue.add(fetch(1000, "198.51.100.1"), 0)
    assert order(queue).index(1000) <= 2


def test_users_of_allocations_come_before_all_strangers_and_have_places_of_their_own():
    queue = KeyQueue(places=2)
    assert [queue.add(fetch(ticket, "192.0.2.1"), 0) for ticket in (0, 1)] == [None, None]
    assert [queue.add(fetch(ticket, None), 0) for ticket in (2, 3, 4)] == [None] * 3
    assert order(queue) == [2, 3, 4, 0, 1]


def test_where_all_places_are_taken_the_prefix_that_has_most_loses_its_latest():
    queue = KeyQueue(places=4)
    for ticket in range(4):
        assert queue.add(fetch(ticket, "192.0.2.1"), 0) is None
    assert queue.add(fetch(4, "198.51.100.1"), 0) == fetch(3, "192.0.2.1")
    assert queue.add(fetch(5, "192.0.2.1"), 0) == fetch(5, "192.0.2.1")
    assert order(queue) == [0, 4, 1, 2]
    assert queue.add(fetch(6, "192.0.2.1"), 0) is None, "a place is free when its request is taken"


@pytest.mark.parametrize("places", [1, 3])
def test_of_prefixes_that_have_one_each_the_latest_loses_it(places):
    queue = KeyQueue(places=places)
    fetches = [fetch(ticket, f"192.0.{ticket}.1") for ticket in range(places + 1)]
    assert [queue.add(each, 0) for each in fetches] == [*[None] * places, fetches[-1]]
    assert order(queue) == list(range(places))


def test_who_loses_a_place_is_of_a_prefix_that_has_most_whatever_happened_before():
    random, queue, waiting = Random(8), KeyQueue(places=20), Counter[str | None]()
    for ticket in range(5000):
        if random.random() < 0.3 and (taken := queue.take()) is not None:
            waiting[taken[0].stranger] -= 1
        host = f"192.0.{random.randrange(12)}.1"
        waiting[host] += 1
        if (lost := queue.add(fetch(ticket, host), 0)) is not None:
            assert waiting[lost.stranger] == max(waiting.values())
            waiting[lost.stranger] -= 1
    assert len(order(queue)) == waiting.total() > 0
    assert queue.take() is None


def test_a_request_costs_no_more_where_thousands_of_prefixes_have_taken_all_places():
    steps: list[str] = []
    queue = KeyQueue(places=4096)
    for ticket in range(4096):
        queue.add(fetch(ticket, f"2001:db8:{ticket:x}::1"), 0)
    late = fetch(4096, "198.51.100.1")
    sys.setprofile(lambda frame, event, argument: steps.append(event))
    try:
        queue.add(late, 0)
    finally:
        sys.setprofile(None)
    assert len(steps) < 100
