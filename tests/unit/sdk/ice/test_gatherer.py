"""Gathering (RFC 8445 section 5.1.1): candidates as they are found, no waiting for the slowest."""

import pytest
from peerpath.ice import CandidateFound, CandidateType, GatheringComplete, Pacer, Transmit
from peerpath.ice.foundation import Foundations
from peerpath.ice.gatherer import Gatherer
from peerpath.ice.relays import RelayClosed
from peerpath.ice.servers import GatheringServer
from peerpath.turn.credentials import LongTermCredentials
from stunwire import (
    ALTERNATE_SERVER,
    ERROR_CODE,
    LIFETIME,
    NONCE,
    REALM,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    ErrorCode,
    ErrorValue,
    Integrity,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    TransportAddress,
    long_term_key,
)

BASE = TransportAddress("192.168.1.2", 4000)
SIX = TransportAddress("2001:db8::2", 4000)
MAPPED = TransportAddress("198.51.100.7", 7777)
RELAYED = TransportAddress("203.0.113.1", 50000)
STUN = GatheringServer("stun:one", TransportAddress("203.0.113.1", 3478))
STUN_TWO = GatheringServer("stun:two", TransportAddress("203.0.113.2", 3478), index=1)
TURN = GatheringServer("turn:three", TransportAddress("203.0.113.3", 3478), LongTermCredentials("u", "p"), 2)
KEY = long_term_key("u", "r", "p", PasswordAlgorithm.MD5)


def gatherer(**choices):
    return Gatherer(pacer=Pacer(), foundations=Foundations(), **choices)


def transmits(outputs):
    return [output for output in outputs if isinstance(output, Transmit)]


def found(outputs):
    return [output.candidate for output in outputs if isinstance(output, CandidateFound)]


def run(subject, start, until):
    """(time, output) of all that happens on its own."""
    happened = []
    while (at := subject.next_deadline()) is not None and at <= until:
        at = max(at, start)
        happened += [(at, output) for output in subject.handle_timeout(at)]
    return happened


def bind(subject, packet, now, mapped=MAPPED):
    """The server's answer to a Binding request."""
    answer = Message.success_to(Message.decode(packet.data)).add(XOR_MAPPED_ADDRESS, mapped)
    return subject.receive(answer.encode(), packet.local, packet.remote, now)


def allocate(subject, packet, now):
    """The server's two answers to Allocate."""
    challenge = Message.error_to(Message.decode(packet.data), ErrorCode.UNAUTHENTICATED)
    challenge.add(REALM, "r").add(NONCE, "nonce")
    outputs = subject.receive(challenge.encode(), packet.local, packet.remote, now)
    [again] = transmits(outputs)
    success = Message.success_to(Message.decode(again.data))
    success.add(XOR_RELAYED_ADDRESS, RELAYED).add(XOR_MAPPED_ADDRESS, MAPPED).add(LIFETIME, 600)
    return subject.receive(success.encode(KEY, Integrity.SHA1), packet.local, packet.remote, now)


def test_the_host_candidate_is_there_at_once():
    [candidate] = found(gatherer().add_base(BASE, 0))
    assert (candidate.type, candidate.address, candidate.base) == (CandidateType.HOST, BASE, BASE)


def test_the_first_server_is_asked_at_once_and_the_others_follow_at_ta():
    subject = gatherer()
    subject.add_base(BASE, 0)
    asked = [(0, packet.remote) for packet in transmits(subject.add_server(STUN, 0))]
    for server in (STUN_TWO, TURN):
        asked += [(0, packet.remote) for packet in transmits(subject.add_server(server, 0))]
    asked += [(at, output.remote) for at, output in run(subject, 0, 0.3) if isinstance(output, Transmit)]
    assert asked == [(0, STUN.address), (0.05, TURN.address), (0.1, STUN_TWO.address)]


def test_an_answer_is_a_server_reflexive_candidate():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(STUN, 0))
    [candidate] = found(bind(subject, packet, 0.04))
    assert candidate.type is CandidateType.SERVER_REFLEXIVE
    assert (candidate.address, candidate.base, candidate.candidate.related) == (MAPPED, BASE, BASE)
    assert candidate.server == "stun:one"
    [report] = subject.reports
    assert report.result == MAPPED
    assert report.seconds == pytest.approx(0.04)


def test_without_a_nat_there_is_no_reflexive_candidate():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(STUN, 0))
    assert found(bind(subject, packet, 0.04, BASE)) == []


def test_an_allocation_is_a_relayed_candidate_and_a_reflexive_one():
    subject = gatherer()
    subject.add_base(BASE, 0)
    subject.add_server(STUN, 0)
    subject.add_server(TURN, 0)
    [(_, packet)] = run(subject, 0, 0.06)
    reflexive, relayed = found(allocate(subject, packet, 0.1))
    assert reflexive.type is CandidateType.SERVER_REFLEXIVE
    assert relayed.type is CandidateType.RELAYED
    assert (relayed.address, relayed.base, relayed.candidate.related) == (RELAYED, RELAYED, MAPPED)


def test_relay_only_asks_for_nothing_else_and_names_nothing_else():
    subject = gatherer(relay_only=True)
    assert found(subject.add_base(BASE, 0)) == []
    assert transmits(subject.add_server(STUN, 0)) == []
    [packet] = transmits(subject.add_server(TURN, 0))
    [relayed] = found(allocate(subject, packet, 0.1))
    assert relayed.candidate.related is None


def test_a_lone_turn_server_is_asked_for_a_binding_too_since_that_is_faster():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(TURN, 0))
    assert Message.decode(packet.data).method == Method.BINDING


def test_families_are_not_mixed():
    subject = gatherer()
    subject.add_base(SIX, 0)
    assert transmits(subject.add_server(STUN, 0)) == []


def test_gathering_is_complete_when_all_have_answered():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(STUN, 0))
    bind(subject, packet, 0.04)
    assert subject.no_more_servers(0.05) == [GatheringComplete()]


def test_a_dead_server_is_not_waited_for_past_the_patience():
    subject = gatherer(patience=2)
    subject.add_base(BASE, 0)
    subject.add_server(STUN, 0)
    subject.no_more_servers(0)
    [at] = [at for at, output in run(subject, 0, 60) if isinstance(output, GatheringComplete)]
    assert at == 2


def test_a_dead_server_does_not_delay_a_live_one():
    subject = gatherer()
    subject.add_base(BASE, 0)
    subject.add_server(STUN, 0)
    subject.add_server(STUN_TWO, 0)
    [(_, packet)] = run(subject, 0, 0.06)
    [candidate] = found(bind(subject, packet, 0.09))
    assert candidate.address == MAPPED


def test_silence_and_refusal_are_in_the_report():
    subject = gatherer()
    subject.add_base(BASE, 0)
    subject.add_server(STUN, 0)
    subject.add_server(TURN, 0)
    [(_, packet)] = run(subject, 0, 0.06)
    error = Message.error_to(Message.decode(packet.data), 486)
    assert error.get(ERROR_CODE) == ErrorValue(486, "Allocation Quota Reached")
    subject.receive(error.encode(), packet.local, packet.remote, 0.1)
    run(subject, 0, 60)
    assert {report.server: report.reason for report in subject.reports} == {
        "stun:one": "no answer",
        "turn:three": "486 Allocation Quota Reached",
    }


TURN_FOUR = GatheringServer("turn:four", TransportAddress("203.0.113.4", 3478), TURN.credentials, 3)


def redirect(subject, packet, elsewhere, now):
    error = Message.error_to(Message.decode(packet.data), ErrorCode.TRY_ALTERNATE)
    error.add(ALTERNATE_SERVER, elsewhere)
    return subject.receive(error.encode(), packet.local, packet.remote, now)


def asked_by(subject, start, until):
    return [output for _, output in run(subject, start, until) if isinstance(output, Transmit)]


def test_a_redirection_is_followed():
    subject = gatherer(relay_only=True)
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(TURN, 0))
    [again] = transmits(redirect(subject, packet, TURN_FOUR.address, 0.1))
    assert again.remote == TURN_FOUR.address
    [candidate] = found(allocate(subject, again, 0.4))
    assert candidate.type is CandidateType.RELAYED


def test_a_server_that_is_asked_anyway_is_not_asked_again_because_of_a_redirection():
    """As in a fleet, where one drains: clients have a list of all."""
    subject = gatherer(relay_only=True)
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(TURN, 0))
    subject.add_server(TURN_FOUR, 0)
    assert transmits(redirect(subject, packet, TURN_FOUR.address, 0.01)) == []
    [again] = asked_by(subject, 0.01, 0.4)
    assert again.remote == TURN_FOUR.address
    assert transmits(redirect(subject, again, TURN.address, 0.45)) == []
    assert asked_by(subject, 0.45, 60) == []


def test_nat_bindings_are_kept_alive_until_they_are_not_needed():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(STUN, 0))
    bind(subject, packet, 0)
    subject.no_more_servers(0)
    kept = [at for at, output in run(subject, 0, 50) if isinstance(output, Transmit)]
    assert kept == [15, 30, 45]
    subject.stop_keepalives()
    assert run(subject, 50, 200) == []


def test_a_base_that_goes_takes_its_relays_with_it():
    subject = gatherer(relay_only=True)
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(TURN, 0))
    allocate(subject, packet, 0.1)
    [closed] = [each for each in subject.remove_base(BASE, 1) if isinstance(each, RelayClosed)]
    assert closed.relay == RELAYED


def test_what_is_not_of_a_server_is_left_to_the_agent():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(STUN, 0))
    stranger = TransportAddress("198.51.100.99", 9)
    assert subject.receive(b"data", BASE, stranger, 0) is None
    assert subject.receive(Message(MessageClass.REQUEST, Method.BINDING).encode(), BASE, stranger, 0) is None
    assert subject.receive(packet.data, TransportAddress("192.0.2.99", 1), STUN.address, 0) is None


def test_an_answer_from_somebody_else_is_not_believed():
    subject = gatherer()
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(STUN, 0))
    elsewhere = Transmit(packet.data, packet.local, TransportAddress("198.51.100.66", 3478))
    assert found(bind(subject, elsewhere, 0.01) or []) == []


def test_closing_gives_the_allocations_back():
    subject = gatherer(relay_only=True)
    subject.add_base(BASE, 0)
    [packet] = transmits(subject.add_server(TURN, 0))
    allocate(subject, packet, 0.1)
    [packet] = transmits(subject.close(1))
    request = Message.decode(packet.data)
    assert request.method == Method.REFRESH
    assert request.get(LIFETIME) == 0
