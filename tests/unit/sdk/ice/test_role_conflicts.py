"""Both control, or none does (RFC 8445 sections 7.2.5.1 and 7.3.1.1)."""

from random import Random

import pytest
from peerpath.ice import AgentState, Role, RoleChanged
from peerpath.ice.role import Resolution, Standing
from stunwire import ERROR_CODE, Message
from unit.sdk.ice.duet import Duet, host_candidate

CONTROLLING, CONTROLLED = Role


@pytest.mark.parametrize(
    ("ours", "our_tie", "theirs", "their_tie", "resolution"),
    [
        (CONTROLLING, 5, CONTROLLING, 4, Resolution.REFUSE),
        (CONTROLLING, 5, CONTROLLING, 5, Resolution.REFUSE),
        (CONTROLLING, 4, CONTROLLING, 5, Resolution.SWITCH),
        (CONTROLLED, 5, CONTROLLED, 4, Resolution.SWITCH),
        (CONTROLLED, 5, CONTROLLED, 5, Resolution.SWITCH),
        (CONTROLLED, 4, CONTROLLED, 5, Resolution.REFUSE),
        (CONTROLLING, 5, CONTROLLED, 9, None),
        (CONTROLLED, 5, CONTROLLING, 9, None),
    ],
)
def test_the_table_of_section_7_3_1_1(ours, our_tie, theirs, their_tie, resolution):
    standing = Standing(ours, Random(1))
    standing.tie_breaker = our_tie
    assert standing.resolve(theirs, their_tie) is resolution


def test_a_487_switches_once_and_changes_the_tie_breaker():
    standing = Standing(CONTROLLING, Random(1))
    before = standing.tie_breaker
    assert standing.yield_role(CONTROLLING)
    assert standing.role is CONTROLLED
    assert standing.tie_breaker != before
    # A second 487, to a check that went out before the switch, changes nothing any more.
    assert not standing.yield_role(CONTROLLING)
    assert standing.role is CONTROLLED


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("seed", range(10))
def test_the_same_role_on_both_sides_ends_with_one_of_each(role, seed):
    duet = Duet(roles=(role, role), seed=seed)
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    duet.start()
    duet.run(2)
    assert {duet.a.agent.role, duet.b.agent.role} == set(Role)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED
    assert len(duet.a.said(RoleChanged)) + len(duet.b.said(RoleChanged)) == 1


def test_equal_tie_breakers_part_company():
    duet = Duet(roles=(CONTROLLING, CONTROLLING))
    for player in (duet.a, duet.b):
        player.agent._context.standing.tie_breaker = 77
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    duet.start()
    duet.run(5)
    assert {duet.a.agent.role, duet.b.agent.role} == set(Role)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_the_conflict_is_answered_with_487():
    duet = Duet(roles=(CONTROLLING, CONTROLLING))
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    duet.start()
    duet.run(2)
    errors = [Message.decode(packet.data).get(ERROR_CODE) for _, _, packet in duet.sent]
    assert {error.code for error in errors if error is not None} == {487}
