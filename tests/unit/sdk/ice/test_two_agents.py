"""Two agents talking in memory: the main test of the agent."""

import pytest
from peerpath.ice import AgentState, NotConnected
from unit.sdk.ice.duet import Duet, host_candidate


@pytest.fixture
def duet():
    duet = Duet()
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    return duet


def test_they_find_the_direct_path_and_nominate_it(duet):
    duet.start()
    duet.run(1)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED
    assert duet.a.agent.path.remote.address == ("192.0.2.2", 4000)
    assert duet.b.agent.path.remote.address == ("192.0.2.1", 4000)


def test_data_flows_both_ways(duet):
    duet.start()
    duet.run(1)
    duet.send(duet.a, b"hello")
    duet.send(duet.b, b"world")
    duet.run(2)
    assert (duet.b.data, duet.a.data) == ([b"hello"], [b"world"])


def test_the_first_check_leaves_at_once(duet):
    duet.start()
    assert [at for at, _, _ in duet.sent] == [0.0, 0.0]


def test_there_is_a_path_after_one_round_trip(duet):
    duet.start()
    duet.run(0.0201)
    assert duet.a.agent.path is not None


def test_without_a_path_nothing_can_be_sent(duet):
    with pytest.raises(NotConnected):
        duet.a.agent.send(b"too early", 0)
    duet.start()
    with pytest.raises(NotConnected):
        duet.a.agent.send(b"too early", 0)
