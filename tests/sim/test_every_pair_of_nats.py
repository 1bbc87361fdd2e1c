"""The property of the whole: a direct path if there is one by theory, else the relayed one; never none."""

import statistics

import pytest
from peerpath.ice import AgentState

from sim.kinds import KINDS
from sim.network import Impairments
from sim.scenario import INTERNET_DELAY, play
from sim.theory import can_punch

PAIRS = [(a, b) for a in KINDS for b in KINDS]
LOSSY = Impairments(delay=INTERNET_DELAY, jitter=0.03, loss=0.1, duplication=0.05)


def expect_best(a, b, **choices):
    direct = can_punch(a, b)
    stage = play(a=a, b=b, direct=direct, until=120, **choices)
    assert stage.is_connected(direct=direct), f"{a} to {b}: {stage.a.states} {stage.b.states}"
    return stage


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_best_path_there_is(a, b):
    stage = expect_best(a, b)
    # And both sides agree on it once it is nominated.
    stage.world.run(stage.world.now + 5)
    assert stage.a.path.remote.address in (stage.b.path.local.address, stage.b.path.local.base)
    assert stage.b.path.remote.address in (stage.a.path.local.address, stage.a.path.local.base)
    assert stage.a.stack.agent.state is stage.b.stack.agent.state is AgentState.COMPLETED


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_same_with_a_tenth_lost_and_packets_overtaking_each_other(a, b):
    for seed in range(5):
        expect_best(a, b, internet=LOSSY, seed=seed)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_data_flows_both_ways(a, b):
    stage = expect_best(a, b)
    stage.a.send(b"from a")
    stage.b.send(b"from b")
    stage.world.run(stage.world.now + 1)
    assert [data for _, data in stage.b.received] == [b"from a"]
    assert [data for _, data in stage.a.received] == [b"from b"]


def test_the_median_path_is_usable_within_400_ms(capsys):
    times = sorted(play(a=a, b=b).connected_at for a, b in PAIRS)
    with capsys.disabled():
        worst = times[int(len(times) * 0.95)]
        print(f"\nusable path: median {statistics.median(times):.3f} s, 95 % within {worst:.3f} s", end=" ")
    assert statistics.median(times) < 0.4


def test_dead_servers_cost_nothing_but_their_slots():
    alone = play(a="port-restricted", b="port-restricted").connected_at
    among_dead = play(a="port-restricted", b="port-restricted", dead_servers=2).connected_at
    assert among_dead < alone + 0.3


def test_without_any_server_hosts_that_need_none_find_each_other():
    stage = play(a="open", b="port-restricted", relays=0)
    assert stage.is_connected(direct=True)
