"""What a peer, or somebody on the way, cannot make the agent do (RFC 8445 section 19)."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peerpath.ice import (
    AgentOptions,
    Candidate,
    CandidateRefused,
    CandidateType,
    Credentials,
    DataReceived,
    Description,
    IceAgent,
    NameToResolve,
    Refusal,
    Role,
    Transmit,
)
from peerpath.ice.connectivity_check import form_request
from stunwire import (
    ERROR_CODE,
    PRIORITY,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    Attribute,
    Integrity,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from unit.sdk.ice.duet import Duet, host_candidate, relayed_candidate

LOCAL = host_candidate("192.0.2.1")
PEER = TransportAddress("198.51.100.1", 6000)
THEIRS = Credentials("them", "t" * 22)


def agent(**options):
    subject = IceAgent(Role.CONTROLLED, options=AgentOptions(**options), random=Random(1))
    subject.add_local_candidate(LOCAL, 0)
    subject.set_remote(Description(THEIRS), 0)
    return subject


def remote(host, port=6000, priority=1000):
    return Candidate(CandidateType.HOST, TransportAddress(host, port), priority, host)


def drain(subject, until=60.0):
    """Everything that it sends on its own up to then."""
    outputs = []
    while (at := subject.next_deadline()) is not None and at <= until:
        outputs += subject.handle_timeout(max(at, 0))
    return [output for output in outputs if isinstance(output, Transmit)]


def check(subject, *, theirs=THEIRS, nomination=None, priority=100):
    data, _ = form_request(theirs, subject.credentials, Role.CONTROLLING, 1, priority, nomination)
    return data


# -- candidate lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "224.0.0.1", "::1", "fe80::1", "fd00:ec2::254", "0.0.0.0"]
)
def test_nothing_is_ever_sent_to_addresses_that_are_no_peers(host):
    subject = agent()
    candidate = remote(host)
    assert subject.add_remote_candidate(candidate, 0) == [
        CandidateRefused(candidate, Refusal.FORBIDDEN_ADDRESS)
    ]
    assert drain(subject) == []


def test_a_thousand_candidates_make_a_hundred_pairs_and_checks():
    subject = agent()
    refused = 0
    outputs = []
    for number in range(1000):
        outputs += subject.add_remote_candidate(remote(f"198.51.{number // 250}.{number % 250 + 1}"), 0)
    refused = sum(isinstance(output, CandidateRefused) for output in outputs)
    assert refused == 900
    assert len(subject.pairs) == 100
    sent = [output for output in outputs if isinstance(output, Transmit)] + drain(subject)
    assert len({packet.remote for packet in sent}) == 100


def test_candidates_that_keep_coming_are_checked_a_hundred_times_in_all():
    subject = agent(max_remote_candidates=10_000)
    sent = []
    for number in range(400):
        candidate = remote(f"198.51.{number // 250}.{number % 250 + 1}", priority=1000 + number)
        sent += subject.add_remote_candidate(candidate, number)
        sent += drain(subject, number + 0.9)
    targets = {packet.remote for packet in sent if isinstance(packet, Transmit)}
    assert len(targets) == 100


def test_checks_from_ten_thousand_ports_are_answered_and_not_believed_for_long():
    subject = agent()
    for port in range(1, 2000):
        subject.receive(check(subject), LOCAL.base, TransportAddress("198.51.100.9", port), 0)
    assert len(subject.pairs) == AgentOptions().max_peer_reflexive


def test_names_are_resolved_within_the_same_limit():
    subject = agent()
    outputs = []
    for number in range(1000):
        outputs += subject.add_remote_candidate(remote(f"{number}.local"), 0)
    assert sum(isinstance(output, NameToResolve) for output in outputs) == 100
    subject = agent(relay_only=True)
    [refused] = subject.add_remote_candidate(remote("0f3cbb50-3a5c-4b4d-9f9b-1c5f2f1a7a11.local"), 0)
    assert refused.reason is Refusal.POLICY


# -- relay_only -----------------------------------------------------------------------------------------


def test_relay_only_uses_and_names_no_other_candidate():
    subject = IceAgent(Role.CONTROLLING, options=AgentOptions(relay_only=True))
    [refused] = subject.add_local_candidate(LOCAL, 0)
    assert refused.reason is Refusal.POLICY
    subject.add_local_candidate(relayed_candidate("203.0.113.1"), 0)
    assert [candidate.type for candidate in subject.description.candidates] == [CandidateType.RELAYED]
    subject.set_remote(Description(THEIRS, (remote("198.51.100.1"),)), 0)
    assert {pair.local.type for pair in subject.pairs} == {CandidateType.RELAYED}


def test_relay_only_answers_nobody_at_a_socket_of_its_own():
    subject = IceAgent(Role.CONTROLLED, options=AgentOptions(relay_only=True))
    relay = relayed_candidate("203.0.113.1")
    subject.add_local_candidate(relay, 0)
    subject.set_remote(Description(THEIRS), 0)
    binding = Message(MessageClass.REQUEST, Method.BINDING)
    checks = (
        check(subject),
        request(subject, key=b"guess"),
        request(subject, username="nobody:them"),
        request(subject, unknown=True),
        binding.encode(),
        binding.add(Attribute.opaque(0x0024, "PRIORITY"), b"?").encode(),
    )
    for data in checks:
        assert subject.receive(data, LOCAL.base, PEER, 0) == []
        assert subject.receive(data, relay.base, PEER, 0) != []


# -- messages -------------------------------------------------------------------------------------------


def answer_to(subject, data, source=PEER):
    """The class and error code of the answer; None for silence."""
    packets = [each for each in subject.receive(data, LOCAL.base, source, 0) if isinstance(each, Transmit)]
    answers = [Message.decode(packet.data) for packet in packets]
    answers = [answer for answer in answers if answer.message_class is not MessageClass.REQUEST]
    if not answers:
        return None
    error = answers[0].get(ERROR_CODE)
    return "success" if error is None else error.code


def request(subject, *, username=None, priority=True, key=None, unknown=False):
    message = Message(MessageClass.REQUEST, Method.BINDING)
    if username != "":
        message.add(USERNAME, username or f"{subject.credentials.ufrag}:{THEIRS.ufrag}")
    if priority:
        message.add(PRIORITY, 1)
    if unknown:
        message.add(Attribute.opaque(0x7FFF, "MYSTERY"), b"")
    return message.encode(subject.credentials.key if key is None else key, Integrity.SHA1, fingerprint=True)


def test_a_proper_check_is_answered():
    subject = agent()
    assert answer_to(subject, request(subject)) == "success"


def test_a_wrong_password_is_401_and_nothing_is_learned():
    subject = agent()
    assert answer_to(subject, request(subject, key=b"guess")) == 401
    assert subject.pairs == []


def test_somebody_elses_ufrag_is_401():
    subject = agent()
    assert answer_to(subject, request(subject, username="nobody:them")) == 401
    assert answer_to(subject, request(subject, username="nobody")) == 401


def test_no_integrity_no_username_or_no_priority_is_400():
    subject = agent()
    assert answer_to(subject, Message(MessageClass.REQUEST, Method.BINDING).encode()) == 400
    assert answer_to(subject, request(subject, username="")) == 400
    assert answer_to(subject, request(subject, priority=False)) == 400


def test_an_unknown_attribute_is_420_and_named():
    subject = agent()
    outputs = subject.receive(request(subject, unknown=True), LOCAL.base, PEER, 0)
    answer = Message.decode(outputs[0].data)
    assert answer.get(ERROR_CODE).code == 420
    assert answer.get(UNKNOWN_ATTRIBUTES) == (0x7FFF,)
    assert answer.verify(subject.credentials.key, Integrity.SHA1)


def test_a_malformed_attribute_is_400():
    subject = agent()
    message = Message(MessageClass.REQUEST, Method.BINDING).add(Attribute.opaque(0x0024, "PRIORITY"), b"?")
    assert answer_to(subject, message.encode()) == 400


def test_an_answer_that_nobody_sealed_is_no_answer():
    subject = agent()
    [packet] = subject.add_remote_candidate(remote(*PEER), 0)
    forged = Message.success_to(Message.decode(packet.data))
    assert subject.receive(forged.encode(), LOCAL.base, PEER, 0.01) == []
    assert subject.receive(forged.encode(b"guess", fingerprint=True), LOCAL.base, PEER, 0.01) == []
    assert subject.path is None
    assert len(drain(subject, 5)) == 3  # it goes on


def test_data_is_accepted_only_by_ways_that_the_peer_has_proven():
    duet = Duet()
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    duet.start()
    duet.run(1)
    base = TransportAddress("192.0.2.1", 4000)
    for source in (TransportAddress("192.0.2.2", 4001), TransportAddress("198.51.100.66", 4000)):
        assert duet.a.agent.receive(b"spoofed", base, source, duet.now) == []
    real = TransportAddress("192.0.2.2", 4000)
    assert duet.a.agent.receive(b"real", base, real, duet.now) == [DataReceived(b"real", base, real)]


def test_a_check_from_a_forbidden_address_is_not_even_answered():
    subject = agent()
    assert subject.receive(check(subject), LOCAL.base, TransportAddress("127.0.0.1", 6000), 0) == []


def test_replaying_a_check_makes_no_more_than_one_pair():
    subject = agent()
    data = check(subject)
    sent = []
    for moment in range(100):
        sent += subject.receive(data, LOCAL.base, PEER, moment / 100)
    assert len(subject.pairs) == 1


@settings(max_examples=300)
@given(data=st.binary(max_size=200))
def test_garbage_never_raises(data):
    subject = agent()
    subject.receive(data, LOCAL.base, PEER, 0)


@settings(max_examples=500)
@given(data=st.data())
def test_damaged_checks_never_raise_and_are_never_believed(data):
    subject = agent()
    whole = bytearray(request(subject))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(whole)))
    if bytes(whole) != request(subject):
        subject.receive(bytes(whole[:cut]), LOCAL.base, PEER, 0)
        assert subject.path is None


def test_a_closed_agent_says_nothing():
    subject = agent()
    subject.close(0)
    assert subject.receive(check(subject), LOCAL.base, PEER, 1) == []
    assert subject.handle_timeout(1) == []
    assert subject.next_deadline() is None
    assert subject.add_remote_candidate(replace(remote("198.51.100.2")), 1) == []
