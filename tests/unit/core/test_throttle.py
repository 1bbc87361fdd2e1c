"""Requests per allocation: who floods the relay with requests is not served, and the others are."""

import pytest
from stunwire import Method
from turnrelay.core.events import Throttle, Throttled
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import Reply
from turnrelay.core.token_bucket import TokenBucket
from unit.core.turn_client import ELSEWHERE, HERE, PEER, accepted, bare, only, refused, silent


@pytest.fixture
def world(new_world):
    """Ten requests a second, thirty at once."""
    return new_world(limits=Limits(requests_per_allocation=10, requests_burst=30))


def served(client, number, now):
    """How many of `number` requests at `now` get an answer."""
    outputs = [client.permit(PEER, now=now) for _ in range(number)]
    for refusal in outputs:
        if silent(refusal):
            assert refusal == [Throttled(HERE, Throttle.REQUESTS)]
    return sum(not silent(output) for output in outputs)


def test_a_burst_then_the_rate(world, alice):
    alice.allocate()
    assert served(alice, 50, now=0) == 30
    assert served(alice, 50, now=1) == 10
    assert served(alice, 50, now=1.5) == 5
    assert served(alice, 50, now=100) == 30


def test_others_are_served_meanwhile(world, alice, bob):
    alice.allocate()
    bob.allocate()
    served(alice, 100, now=0)
    accepted(bob.permit(PEER, now=0))
    accepted(world.client(HERE._replace(server=ELSEWHERE.server._replace(port=3479))).allocate())


def test_a_request_that_is_not_served_costs_nothing_more(world, alice):
    alice.allocate()
    served(alice, 1000, now=0)
    assert served(alice, 11, now=1) == 10


def test_a_binding_request_has_its_own_rate(world, alice):
    alice.allocate()
    served(alice, 100, now=0)
    assert not silent(world.deliver(bare(Method.BINDING), HERE, 0))


def test_the_answer_to_a_retransmission_costs_nothing(world, alice):
    alice.allocate(transaction_id=b"twelve bytes")
    served(alice, 100, now=0)
    assert not silent(alice.allocate(transaction_id=b"twelve bytes"))


def test_a_refused_request_costs_as_much(world, alice):
    alice.allocate()
    codes = [alice.permit() for _ in range(50)]
    assert sum(not silent(outputs) for outputs in codes) == 30
    assert refused(codes[0]) == 400


def test_a_stranger_who_forges_the_source_cannot_use_up_the_clients_requests(world, alice):
    """UDP sources can be forged, and peers know the reflexive address that belongs to the 5-tuple."""
    alice.allocate()
    for _ in range(1000):
        world.deliver(bare(Method.REFRESH), HERE, 1)
    accepted(alice.refresh(600, now=1))


# -- the bucket ---------------------------------------------------------------------------------------------


def test_a_bucket_is_full_at_first():
    bucket = TokenBucket(rate=1, burst=5, now=100)
    assert [bucket.take(1, 100) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_bucket_never_holds_more_than_its_burst():
    bucket = TokenBucket(rate=1, burst=5, now=0)
    bucket.take(5, 0)
    assert not bucket.take(6, 1000)
    assert bucket.take(5, 1000)
    assert not bucket.take(0.1, 1000)


def test_a_bucket_fills_evenly():
    bucket = TokenBucket(rate=2, burst=10, now=0)
    bucket.take(10, 0)
    assert not bucket.take(1, 0.499)
    assert bucket.take(1, 0.5)
    # Asking in vain takes nothing: what ran in stays.
    for step in range(51, 60):
        assert not bucket.take(1, step / 100 + 0.4)
    assert bucket.take(1, 1.0)


def test_what_is_taken_in_many_parts_is_not_more():
    bucket = TokenBucket(rate=100, burst=100, now=0)
    taken = sum(10 for step in range(10_000) if bucket.take(10, step / 1000))
    assert taken == pytest.approx(100 + 100 * 10, abs=10)


def test_only_answers_are_sent(world, alice):
    alice.allocate()
    assert len(only(alice.permit(PEER), Reply)) == 1
