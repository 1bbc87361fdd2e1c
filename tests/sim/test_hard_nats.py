"""Port prediction and the birthday technique against simulated NATs: the formula comes true."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peerpath.punch.limits import PunchLimits
from peerpath.punch.tactics import NoTactic

from sim.kinds import APD, EI, HOME
from sim.nat import NatKind, Ports
from sim.network import Impairments
from sim.punching import punched

COUNTING = NatKind(APD, APD, Ports.SEQUENTIAL)
BLOCK = NatKind(APD, APD, Ports.BLOCK)
RANDOM = NatKind(APD, APD, Ports.RANDOM)
EASY = NatKind(EI, APD, Ports.RANDOM)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    easy=st.sampled_from([EASY, HOME]),
    delay=st.sampled_from([0.001, 0.03, 0.15]),
    neighbours=st.integers(0, 30),
    is_first=st.booleans(),
)
def test_what_can_be_foretold_is_always_hit(
    seed: int, easy: NatKind, delay: float, neighbours: int, is_first: bool
) -> None:
    sides = ([COUNTING], [easy]) if is_first else ([easy], [COUNTING])
    assert punched(*sides, seed=seed, impairments=Impairments(delay), neighbours=neighbours) is True


def test_blocks_are_hit_unless_one_begins_anew_between_samples_and_guesses() -> None:
    # With 15 neighbours some 30 of its 512 ports go by meanwhile: one try in about twelve meets the end.
    tries = 200
    results = [
        punched([BLOCK], [easy], seed=seed, impairments=Impairments(0.03), neighbours=seed % 31)
        for seed in range(tries // 2)
        for easy in (EASY, HOME)
    ]
    assert results.count(True) >= 0.9 * tries


def test_loss_and_packets_that_overtake_each_other_are_made_up_for() -> None:
    rough = Impairments(0.03, jitter=0.01, loss=0.05)
    results = [punched([COUNTING], [EASY], seed=seed, impairments=rough) for seed in range(20)]
    assert results.count(True) >= 19


def test_random_ports_are_hit_as_often_as_the_formula_says() -> None:
    # Few sockets and guesses, so that a miss is as likely as a hit: 1 - exp(-kn/N) with 128 x 350 is 0.5.
    limits = PunchLimits(sockets=128, probes=350)
    tries = 80
    hits = [punched([RANDOM], [EASY], seed=seed, limits=limits) for seed in range(tries)].count(True)
    expected = tries * (1 - math.exp(-128 * 350 / 64512))
    deviation = math.sqrt(expected * (1 - expected / tries))
    assert abs(hits - expected) < 4 * deviation


def test_at_the_default_figures_random_ports_are_hit() -> None:
    assert [punched([EASY], [RANDOM], seed=seed) for seed in range(6)].count(True) >= 5


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    delay=st.sampled_from([0.001, 0.03, 0.15]),
    neighbours=st.integers(0, 30),
)
def test_two_nats_that_count_meet(seed: int, delay: float, neighbours: int) -> None:
    sides = [COUNTING], [COUNTING]
    assert punched(*sides, seed=seed, impairments=Impairments(delay), neighbours=neighbours) is True


def test_two_nats_that_count_meet_in_spite_of_loss() -> None:
    rough = Impairments(0.03, jitter=0.01, loss=0.05)
    results = [punched([COUNTING], [COUNTING], seed=seed, impairments=rough) for seed in range(20)]
    assert results.count(True) >= 19


@pytest.mark.parametrize("other", [RANDOM, COUNTING, BLOCK])
def test_hard_against_hard_is_not_attempted(other: NatKind) -> None:
    result = punched([RANDOM], [other], seed=1)
    assert isinstance(result, NoTactic)
    assert "both NATs" in result.reason
