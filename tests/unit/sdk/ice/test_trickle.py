"""Candidates that come one by one (RFC 8838), in whatever order signaling brings them."""

from dataclasses import replace

from peerpath.ice import (
    AgentState,
    Candidate,
    CandidateRefused,
    CandidateType,
    Description,
    PairState,
    Refusal,
)
from unit.sdk.ice.duet import Duet, host_candidate, relayed_candidate

HOST_A, HOST_B = host_candidate("192.0.2.1"), host_candidate("192.0.2.2")


def bare(description):
    return Description(description.credentials, options=description.options)


def meet(duet):
    """Descriptions without candidates."""
    duet.do(duet.b, duet.b.agent.set_remote(bare(duet.a.agent.description), duet.now))
    duet.do(duet.a, duet.a.agent.set_remote(bare(duet.b.agent.description), duet.now))


def tell(duet, player, candidate):
    other = duet.other(player)
    duet.do(other, other.agent.add_remote_candidate(candidate.candidate, duet.now))


def test_an_empty_check_list_has_not_failed():
    duet = Duet()
    meet(duet)
    duet.run(100)
    assert duet.a.agent.state is AgentState.CHECKING


def test_candidates_may_come_before_the_description():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    tell(duet, duet.a, HOST_A)
    tell(duet, duet.b, HOST_B)
    assert not duet.sent
    meet(duet)
    duet.run(1)
    assert duet.a.agent.state is AgentState.COMPLETED


def test_candidates_may_come_long_after():
    duet = Duet()
    meet(duet)
    duet.run(20)
    duet.give(duet.a, HOST_A)
    duet.run(30)
    duet.give(duet.b, HOST_B)
    tell(duet, duet.b, HOST_B)
    duet.run(31)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_one_side_that_hears_nothing_learns_from_the_checks():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    meet(duet)
    tell(duet, duet.b, HOST_B)
    duet.run(1)
    assert duet.b.agent.path.remote.type is CandidateType.PEER_REFLEXIVE
    assert duet.b.agent.state is AgentState.COMPLETED


def test_a_check_that_is_ahead_of_the_description_is_answered_and_remembered():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    # a knows b, b does not know a yet
    duet.describe(duet.b)
    duet.run(0.2)
    assert duet.a.agent.path is not None
    assert duet.b.agent.state is AgentState.NEW
    duet.do(duet.b, duet.b.agent.set_remote(bare(duet.a.agent.description), duet.now))
    duet.run(0.5)
    assert duet.b.agent.state is AgentState.COMPLETED


def test_signaling_corrects_what_was_learned_from_a_check():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    meet(duet)
    tell(duet, duet.b, HOST_B)
    duet.run(0.5)
    priority = duet.b.agent.pairs[0].priority
    tell(duet, duet.a, HOST_A)
    assert duet.b.agent.path.remote.type is CandidateType.HOST
    assert duet.b.agent.pairs[0].priority > priority
    assert len(duet.b.agent.pairs) == 1


def test_a_relayed_candidate_that_was_learned_is_known_for_relayed():
    duet = Duet()
    relay = relayed_candidate("203.0.113.1")
    duet.give(duet.a, relay)
    duet.give(duet.b, HOST_B)
    meet(duet)
    tell(duet, duet.b, HOST_B)
    duet.run(0.3)
    [pair] = duet.b.agent.pairs
    assert pair.remote.type is CandidateType.PEER_REFLEXIVE
    assert pair.is_relayed


def test_the_same_candidate_twice_makes_one_pair():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    meet(duet)
    for _ in range(3):
        tell(duet, duet.b, HOST_B)
    assert len(duet.a.agent.pairs) == 1


def test_a_candidate_of_another_session_is_refused():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    meet(duet)
    stale = replace(HOST_B.candidate, ufrag="another")
    [refused] = duet.a.agent.add_remote_candidate(stale, 0)
    assert refused == CandidateRefused(stale, Refusal.OTHER_SESSION)
    current = replace(HOST_B.candidate, ufrag=duet.b.agent.credentials.ufrag)
    duet.do(duet.a, duet.a.agent.add_remote_candidate(current, 0))
    assert len(duet.a.agent.pairs) == 1


def test_without_any_working_pair_it_fails_once_both_sides_have_ended():
    duet = Duet(passes=lambda _: False)
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    duet.start(end=True)
    duet.run(60)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.FAILED
    [pair] = duet.a.agent.pairs
    assert pair.state is PairState.FAILED
    assert pair.failure == "no answer to 7 checks"
    # 0 + 0.5 + 1 + 2 + 4 + 8 + 16, and 16 * RTO of waiting (RFC 8489 section 6.2.1)
    failed_at = next(
        at for at, output in duet.a.outputs if getattr(output, "state", None) is AgentState.FAILED
    )
    assert failed_at == 39.5


def test_it_does_not_fail_while_the_peer_may_still_name_candidates():
    duet = Duet(passes=lambda _: False)
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    duet.start(end=False)
    duet.run(60)
    assert duet.a.agent.state is AgentState.CHECKING
    duet.do(duet.a, duet.a.agent.end_of_local_candidates(duet.now))
    duet.do(duet.a, duet.a.agent.end_of_remote_candidates(duet.now))
    assert duet.a.agent.state is AgentState.FAILED


def test_what_is_not_used_here_is_refused():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    meet(duet)
    for candidate in (
        replace(HOST_B.candidate, transport="tcp"),
        replace(HOST_B.candidate, component=2),
    ):
        assert duet.a.agent.add_remote_candidate(candidate, 0) == [
            CandidateRefused(candidate, Refusal.UNSUPPORTED)
        ]
    assert isinstance(HOST_B.candidate, Candidate)


def test_a_path_is_told_again_when_signaling_says_what_the_peer_has_there():
    """A relayed candidate whose checks overtake signaling is known by their priority until then."""
    duet = Duet()
    meet(duet)
    relayed = relayed_candidate("192.0.2.2")
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, relayed)
    tell(duet, duet.a, HOST_A)
    duet.run(2)
    learned = duet.a.selections[-1].path
    assert learned.remote.type is CandidateType.PEER_REFLEXIVE
    assert learned.is_relayed
    tell(duet, duet.b, relayed)
    told = duet.a.selections[-1].path
    assert told.remote.type is CandidateType.RELAYED
    assert told.is_relayed
    assert told.nominated
