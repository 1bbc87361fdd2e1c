"""Consent freshness (RFC 7675) and keepalives (RFC 8445 section 11)."""

import itertools
from random import Random

import pytest
from peerpath.ice import AgentOptions, AgentState, ConsentLost, NotConnected
from peerpath.ice.connectivity_check import form_error
from peerpath.ice.consent import EXPIRY, Consent
from stunwire import ErrorCode, Message, MessageClass, Method
from unit.sdk.ice.duet import Duet, host_candidate


def connected(**choices):
    duet = Duet(**choices)
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    duet.start()
    duet.run(1)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED
    return duet


def requests(duet, name, since):
    return [
        at
        for at, sender, packet in duet.sent
        if sender == name
        and at >= since
        and Message.decode(packet.data).message_class is MessageClass.REQUEST
    ]


def last_request(duet):
    """The latest check of a."""
    return next(
        packet
        for _, name, packet in reversed(duet.sent)
        if name == "a" and Message.decode(packet.data).message_class is MessageClass.REQUEST
    )


def test_checks_go_out_every_five_seconds_give_or_take_a_fifth():
    duet = connected()
    duet.run(600)
    times = requests(duet, "a", since=1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(4 <= gap <= 6 for gap in gaps)
    assert max(gaps) - min(gaps) > 1  # at random
    assert 110 <= len(times) <= 130


def test_each_check_is_a_transaction_of_its_own():
    duet = connected()
    duet.run(60)
    ids = [
        Message.decode(packet.data).transaction_id
        for at, name, packet in duet.sent
        if name == "a" and at > 1 and Message.decode(packet.data).message_class is MessageClass.REQUEST
    ]
    assert len(set(ids)) == len(ids)


def test_it_expires_exactly_thirty_seconds_after_the_last_answer():
    cut_at = 1000.0
    duet = connected(passes=lambda _: True)
    duet.run(12)
    last_answer = max(
        at
        for at, name, packet in duet.sent
        if name == "b" and Message.decode(packet.data).message_class is MessageClass.SUCCESS_RESPONSE
    )
    cut_at = last_answer + duet.delay
    duet.run(cut_at)
    duet.passes = lambda _: False
    duet.run(cut_at + EXPIRY - 0.001)
    duet.send(duet.a, b"just in time")
    assert not duet.a.said(ConsentLost)
    duet.run(cut_at + EXPIRY)
    [lost] = duet.a.said(ConsentLost)
    assert not lost.revoked
    assert duet.a.when(ConsentLost) == [pytest.approx(cut_at + EXPIRY, abs=1e-6)]
    with pytest.raises(NotConnected):
        duet.a.agent.send(b"too late", duet.now)


def test_even_a_driver_that_is_late_cannot_send_past_the_expiry():
    duet = connected()
    with pytest.raises(NotConnected, match="consent"):
        duet.a.agent.send(b"too late", 1 + EXPIRY)


def test_the_loss_ends_in_failure_when_nothing_works_any_more():
    duet = connected()
    duet.passes = lambda _: False
    duet.run(100)
    assert duet.a.states[-2:] == [AgentState.DISCONNECTED, AgentState.FAILED]


def test_when_the_network_comes_back_the_path_is_found_again_without_signaling():
    duet = connected()
    duet.passes = lambda _: False
    duet.run(35)
    assert duet.a.agent.path is None
    duet.passes = lambda _: True
    duet.run(45)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_answers_hold_it_alive_through_heavy_loss():
    random = Random(3)
    duet = connected()
    duet.passes = lambda _: random.random() > 0.3
    duet.run(600)
    assert duet.a.agent.path is not None
    assert not duet.a.said(ConsentLost)


def test_the_peer_can_revoke_it():
    duet = connected()
    duet.passes = lambda packet: packet.local.host != "192.0.2.1"  # b does not get the checks of a
    duet.run(8)
    packet = last_request(duet)
    forbidden = form_error(Message.decode(packet.data), ErrorCode.FORBIDDEN, duet.b.agent.credentials)
    duet.do(duet.a, duet.a.agent.receive(forbidden, packet.local, packet.remote, duet.now))
    [lost] = duet.a.said(ConsentLost)
    assert lost.revoked


def test_a_forged_revocation_is_ignored():
    duet = connected()
    duet.passes = lambda packet: packet.local.host != "192.0.2.1"
    duet.run(8)
    packet = last_request(duet)
    forged = form_error(Message.decode(packet.data), ErrorCode.FORBIDDEN)
    duet.do(duet.a, duet.a.agent.receive(forged, packet.local, packet.remote, duet.now))
    assert not duet.a.said(ConsentLost)


def test_it_is_doubtful_after_three_checks_without_an_answer():
    consent = Consent(0, Random(1))
    for number in range(3):
        assert not consent.is_doubtful
        consent.asked(bytes([number]), 5 * number)
    assert consent.is_doubtful
    assert consent.answered(bytes([1]), 16) == 11
    assert not consent.is_doubtful
    assert consent.expires_at == 16 + EXPIRY


def test_without_consent_indications_keep_the_binding_alive():
    duet = connected(options=AgentOptions(consent=False))
    before = len(duet.sent)
    duet.run(61)
    indications = [
        at
        for at, name, packet in duet.sent[before:]
        if name == "a"
        and (message := Message.decode(packet.data)).message_class is MessageClass.INDICATION
        and message.method == Method.BINDING
    ]
    assert len(indications) == 4  # every 15 s
    assert duet.a.agent.state is AgentState.COMPLETED
