"""The pool of relay ports: every port once, in an order nobody foresees, the longest rested first."""

import pytest
from turnrelay.relay.ports import PortPool


def take(pool, *, even=False, with_next=False):
    """The first candidate, taken; None if there is none."""
    port = next(pool.candidates(even, with_next), None)
    if port is not None:
        pool.take(port)
    return port


def test_every_port_of_the_range_once():
    pool = PortPool(50000, 50009)
    assert pool.capacity == 10
    assert sorted(take(pool) for _ in range(10)) == list(range(50000, 50010))
    assert take(pool) is None
    assert pool.in_use == 10


def test_a_range_of_one():
    pool = PortPool(50000, 50000)
    assert take(pool) == 50000
    assert take(pool) is None
    pool.give_back(50000)
    assert take(pool, even=True) == 50000


def test_the_order_is_not_foreseeable():
    """RFC 8656 section 21.1.6, RFC 6056: an attacker off the path does not know the next port."""
    orders = {tuple(take(pool) for _ in range(50)) for pool in (PortPool(50000, 50049) for _ in range(3))}
    assert len(orders) == 3
    assert tuple(range(50000, 50050)) not in orders


def test_ports_in_use_are_counted():
    pool = PortPool(50000, 50009)
    ports = [take(pool) for _ in range(4)]
    assert pool.in_use == 4
    pool.give_back(ports[0])
    assert pool.in_use == 3


def test_a_port_that_came_back_rests_longest():
    pool = PortPool(50000, 50009)
    first = take(pool)
    pool.give_back(first)
    assert [take(pool) for _ in range(10)][-1] == first


@pytest.mark.parametrize(("first", "last"), [(50000, 50009), (50001, 50010), (50001, 50009)])
def test_even_ports(first, last):
    pool = PortPool(first, last)
    evens = [port for port in range(first, last + 1) if port % 2 == 0]
    assert sorted(take(pool, even=True) for _ in evens) == evens
    assert take(pool, even=True) is None
    assert take(pool) % 2 == 1


def test_pairs():
    pool = PortPool(50000, 50009)
    for _ in range(5):
        port = take(pool, even=True, with_next=True)
        assert port % 2 == 0
        pool.take(port + 1)
    assert take(pool, even=True, with_next=True) is None
    assert pool.in_use == 10


def test_a_pair_ends_within_the_range():
    assert take(PortPool(50001, 50002), even=True, with_next=True) is None


def test_a_pair_needs_both_ports():
    pool = PortPool(50000, 50003)
    pool.take(50001)
    assert take(pool, even=True, with_next=True) == 50002
    pool.give_back(50001)
    assert take(pool, even=True, with_next=True) == 50000


def test_each_candidate_is_offered_once():
    """Somebody else has all the ports: the caller is told of each, and then there are none."""
    pool = PortPool(50000, 50009)
    for even, expected in ((False, 10), (True, 5)):
        offered = list(pool.candidates(even, False))
        assert len(offered) == len(set(offered)) == expected
    assert pool.in_use == 0


def test_a_candidate_that_was_not_taken_goes_to_the_end():
    """A port that another program holds is not tried again before all the others."""
    pool = PortPool(50000, 50009)
    tried = []
    for port in pool.candidates(False, False):
        tried.append(port)
        if len(tried) == 3:
            pool.take(port)
            break
    assert {take(pool) for _ in range(7)}.isdisjoint(tried)


def test_taking_what_is_taken_is_our_bug():
    pool = PortPool(50000, 50009)
    pool.take(50000)
    with pytest.raises(KeyError):
        pool.take(50000)
