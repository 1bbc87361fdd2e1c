"""A peer that is lite (RFC 8445 section 2.5): it answers checks and sends none."""

from random import Random

from peerpath.ice import (
    AgentState,
    Credentials,
    Description,
    IceAgent,
    PairSelected,
    Role,
    Transmit,
)
from peerpath.ice.connectivity_check import form_success
from stunwire import ICE_CONTROLLED, ICE_CONTROLLING, USE_CANDIDATE, Message
from unit.sdk.ice.duet import host_candidate

LITE = Credentials("lite", "l" * 22)
LOCAL, REMOTE = host_candidate("192.0.2.1"), host_candidate("198.51.100.1")


def converse(role, until=3.0):
    """An agent and a peer that answers everything 10 ms later; the requests of the agent and its outputs."""
    agent = IceAgent(role, random=Random(1))
    outputs = agent.add_local_candidate(LOCAL, 0)
    description = Description(LITE, (REMOTE.candidate,), lite=True, options=frozenset({"ice2"}))
    outputs += agent.set_remote(description, 0)
    requests, heard, now = [], [], 0.0
    while True:
        answers = []
        for output in outputs:
            heard.append(output)
            if isinstance(output, Transmit):
                request = Message.decode(output.data)
                requests.append(request)
                answers.append(form_success(request, output.local, LITE))
        if answers:
            now += 0.01
            outputs = [
                output
                for answer in answers
                for output in agent.receive(answer, LOCAL.base, REMOTE.address, now)
            ]
            continue
        deadline = agent.next_deadline()
        if deadline is None or deadline > until:
            return agent, requests, heard
        now = max(now, deadline)
        outputs = agent.handle_timeout(now)


def test_the_full_agent_controls_whatever_it_was():
    for role in Role:
        agent, requests, _ = converse(role)
        assert agent.role is Role.CONTROLLING
        assert all(ICE_CONTROLLING in request and ICE_CONTROLLED not in request for request in requests)


def test_the_pair_is_nominated_by_a_second_check():
    agent, requests, heard = converse(Role.CONTROLLING)
    assert agent.state is AgentState.COMPLETED
    assert [USE_CANDIDATE in request for request in requests] == [False, True]
    assert [output.path.nominated for output in heard if isinstance(output, PairSelected)] == [False, True]
