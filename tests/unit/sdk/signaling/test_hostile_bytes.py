"""Random and mutated messages: SignalingError, or nothing at all."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.signaling import Dialing, ReplayGuard, Route, SignalingError
from peerpath.signaling.envelope import Content
from unit.sdk.signaling.pair import NOW, Pair

ROUNDS = 1500


def test_mutated_messages_are_refused_in_words_by_everyone():
    randomness = random.Random(1)
    pair = Pair()
    answering = pair.answering()
    unanswered = Dialing(pair.alice, pair.bob.public_key, now=NOW)
    unanswered.seal("offer", {})
    originals = [pair.offer, pair.dialing.seal("early", {"a": 1}), answering.seal("answer", {"b": [2]})]
    for _ in range(ROUNDS):
        data = mutated(randomness, randomness.choice(originals))
        if data in originals:
            continue
        for opener in (pair.dialing.open, unanswered.open, answering.open, pair.answering):
            with pytest.raises(SignalingError):
                opener(data)


def mutated(randomness, data):
    changed = bytearray(data)
    for _ in range(randomness.choice((1, 1, 2, 8))):
        match randomness.randrange(4):
            case 0 if changed:
                changed[randomness.randrange(len(changed))] = randomness.randrange(256)
            case 1:
                del changed[randomness.randrange(len(changed) + 1) :]
            case 2:
                place = randomness.randrange(len(changed) + 1)
                changed[place:place] = randomness.randbytes(randomness.randrange(1, 20))
            case 3 if changed:
                place = randomness.randrange(len(changed))
                del changed[place : place + randomness.randrange(1, 20)]
    return bytes(changed)


@given(st.binary(max_size=200))
def test_random_bytes_have_no_route_or_a_whole_one(data):
    try:
        route = Route.of(data)
    except SignalingError:
        return
    assert len(route.attempt) == 16


@given(st.binary(max_size=100))
def test_random_contents_decode_to_what_encodes_again_or_not_at_all(data):
    try:
        content = Content.decode(data)
    except SignalingError:
        return
    assert isinstance(content.body, dict)


def test_random_offers_leave_the_guard_empty():
    guard, randomness = ReplayGuard(), random.Random(2)
    pair = Pair()
    for _ in range(200):
        with pytest.raises(SignalingError):
            pair.answering(b"\x01\x01" + randomness.randbytes(randomness.randrange(300)), guard=guard)
    assert guard.remembered == 0
