"""The guard: once, fresh, and only so many."""

import pytest
from peerpath.identity import Identity
from peerpath.signaling import ReplayGuard, SignalingError
from unit.sdk.signaling.pair import NOW, Pair

ALICE, BOB = Identity.generate().public_key, Identity.generate().public_key


@pytest.mark.parametrize(
    ("clock", "words"), [(601, "601 s behind"), (-601, "601 s ahead of"), (86_400, "86400 s behind")]
)
def test_a_clock_too_far_off_is_refused_in_words(clock, words):
    pair = Pair()
    with pytest.raises(SignalingError, match=f"dated {words} this computer's clock, 600 s are tolerated"):
        pair.answering(now=NOW + clock)


@pytest.mark.parametrize("clock", [-600, 0, 600])
def test_a_clock_a_little_off_is_tolerated(clock):
    assert Pair().answering(now=NOW + clock).kind == "offer"


def test_an_attempt_is_remembered_as_long_as_it_would_be_taken():
    guard = ReplayGuard()
    guard.admit(ALICE, b"1", sent_at=NOW, now=NOW - 600)
    for now in (NOW - 600, NOW, NOW + 600):
        with pytest.raises(SignalingError, match="replayed"):
            guard.admit(ALICE, b"1", sent_at=NOW, now=now)
    with pytest.raises(SignalingError, match="behind"):
        guard.admit(ALICE, b"1", sent_at=NOW, now=NOW + 601)


def test_what_could_not_be_taken_again_is_forgotten():
    guard = ReplayGuard()
    for number in range(100):
        guard.admit(ALICE, bytes((number,)), sent_at=NOW, now=NOW)
    guard.admit(ALICE, b"later", sent_at=NOW + 601, now=NOW + 601)
    assert guard.remembered == 1


def test_nobody_uses_up_the_attempts_of_somebody_else():
    guard = ReplayGuard()
    guard.admit(ALICE, b"1", sent_at=NOW, now=NOW)
    guard.admit(BOB, b"1", sent_at=NOW, now=NOW)


def test_a_flood_of_attempts_costs_bounded_memory_and_does_not_silence_the_listener():
    guard = ReplayGuard(capacity=10)
    for number in range(1000):
        guard.admit(ALICE, number.to_bytes(2, "big"), sent_at=NOW, now=NOW)
    assert guard.remembered == 10
    guard.admit(BOB, b"1", sent_at=NOW, now=NOW)


def test_a_refused_attempt_is_not_remembered():
    guard = ReplayGuard()
    with pytest.raises(SignalingError):
        guard.admit(ALICE, b"1", sent_at=NOW, now=NOW + 1000)
    assert guard.remembered == 0
