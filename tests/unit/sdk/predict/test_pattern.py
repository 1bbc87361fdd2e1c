"""What fits a handful of ports, and what comes next."""

import math
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.predict import PORTS, Pattern, pattern_of
from peerpath.predict.pattern import FIRST_PORT, LAST_PORT

RANDOM = Random(1)


@pytest.mark.parametrize(
    ("ports", "kind", "step"),
    [
        ([], Pattern.UNKNOWN, 0),
        ([5000], Pattern.UNKNOWN, 0),
        ([5000, 5001], Pattern.UNKNOWN, 0),
        ([5000, 5000, 5000], Pattern.CONSTANT, 0),
        ([5000, 5001, 5002, 5003], Pattern.INCREMENT, 1),
        ([5000, 5002, 5004, 5006], Pattern.INCREMENT, 2),
        ([5000, 4999, 4998, 4997], Pattern.INCREMENT, -1),
        ([5000, 5001, 5004, 5005, 5006], Pattern.INCREMENT, 1),
        ([65534, 65535, 1024, 1025], Pattern.INCREMENT, 1),
        # Two of mappings that were there before.
        ([37224, 37225, 36926, 36927, 37226, 37227], Pattern.INCREMENT, 1),
        ([10348, 10349, 10350, 10351, 9593, 9596], Pattern.INCREMENT, 1),
        ([9593, 9596, 10351, 10350, 10349, 10348], Pattern.INCREMENT, -1),
        ([10348, 10349, 60000, 9593, 9596, 10350], Pattern.RANDOM, 0),
        ([10348, 10349, 10350, 60000], Pattern.RANDOM, 0),
        ([5000, 5400, 5100, 5250, 5020], Pattern.BLOCK, 0),
        ([5000, 42000, 13000, 61000], Pattern.RANDOM, 0),
    ],
)
def test_known_sequences(ports: list[int], kind: Pattern, step: int) -> None:
    pattern = pattern_of(ports)
    assert (pattern.kind, pattern.step) == (kind, step)


def test_what_was_there_before_is_no_part_of_the_sequence() -> None:
    pattern = pattern_of([10348, 10349, 10350, 10351, 9593, 9596])
    assert (pattern.last, pattern.low, pattern.high, pattern.is_exact) == (10351, 10348, 10351, True)


@given(
    first=st.integers(FIRST_PORT, LAST_PORT),
    steps=st.lists(st.integers(1, 8), min_size=21, max_size=21),
    downward=st.booleans(),
    drift=st.integers(0, 40),
)
def test_what_a_counting_nat_hands_out_next_is_among_the_guesses(
    first: int, steps: list[int], downward: bool, drift: int
) -> None:
    sign = -1 if downward else 1
    ports = [FIRST_PORT + (first + sign * offset - FIRST_PORT) % PORTS for offset in accumulate([0, *steps])]
    pattern = pattern_of(ports[:6])
    assert pattern.kind is Pattern.INCREMENT
    guesses = pattern.guesses(16, 640, RANDOM)
    assert len(set(guesses)) == len(guesses)
    # Other hosts have made mappings since the samples.
    following = [FIRST_PORT + (port + sign * drift - FIRST_PORT) % PORTS for port in ports[6:22]]
    assert set(following[:1]) <= set(guesses)
    if pattern.largest_step == 8:
        assert set(following) <= set(guesses)


@given(st.lists(st.integers(0, 511), min_size=6, max_size=6, unique=True), st.integers(2000, 60000))
def test_a_block_is_guessed_around(offsets: list[int], start: int) -> None:
    pattern = pattern_of([start + offset for offset in offsets])
    guesses = pattern.guesses(64, 1024, RANDOM)
    if pattern.kind is Pattern.BLOCK:
        assert set(range(start + max(offsets) - 400, start + min(offsets) + 400)) <= set(guesses)
    else:
        assert pattern.kind is Pattern.INCREMENT


@given(st.lists(st.integers(0, 65535), max_size=12), st.integers(1, 256), st.integers(0, 3000))
def test_guesses_are_ports_each_once_and_no_more_than_wanted(
    ports: list[int], sockets: int, count: int
) -> None:
    guesses = pattern_of(ports).guesses(sockets, count, RANDOM)
    assert len(guesses) == len(set(guesses)) <= count
    assert all(0 < port < 65536 for port in guesses)


def test_the_birthday_formula() -> None:
    pattern = pattern_of([5000, 42000, 13000, 61000])
    assert pattern.chance(256, 1024) == pytest.approx(1 - math.exp(-256 * 1024 / 64512))
    assert pattern.chance(256, 1024) == pytest.approx(0.983, abs=0.001)


def test_random_samples_do_not_pass_for_anything_else() -> None:
    random = Random(7)
    kinds = [
        pattern_of([random.randint(FIRST_PORT, LAST_PORT) for _ in range(6)]).kind for _ in range(20_000)
    ]
    assert set(kinds) == {Pattern.RANDOM}
