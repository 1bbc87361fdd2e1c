"""Priorities: the figures of RFC 8445 sections 5.1.2 and 6.1.2.3, and the order of RFC 8421."""

import pytest
from peerpath.ice import Candidate, CandidateType, LocalCandidate
from peerpath.ice.priority import (
    candidate_priority,
    local_preferences,
    pair_priority,
    peer_reflexive_priority,
    relay_preference,
)
from stunwire import TransportAddress
from unit.sdk.ice.duet import host_candidate, relayed_candidate

HOST, PRFLX, SRFLX, RELAY = (
    CandidateType.HOST,
    CandidateType.PEER_REFLEXIVE,
    CandidateType.SERVER_REFLEXIVE,
    CandidateType.RELAYED,
)


@pytest.mark.parametrize(
    ("kind", "local_preference", "component", "priority"),
    [
        # The examples of RFC 8445 section 15 and of RFC 8839 are these figures.
        (HOST, 65535, 1, 2130706431),
        (SRFLX, 65535, 1, 1694498815),
        (PRFLX, 65535, 1, 1862270975),
        (RELAY, 65535, 1, 16777215),
        (HOST, 65535, 2, 2130706430),
        (HOST, 0, 1, 2113929471),
        (RELAY, 0, 256, 0),
    ],
)
def test_candidate_priority(kind, local_preference, component, priority):
    assert candidate_priority(kind, local_preference, component) == priority


@pytest.mark.parametrize(
    ("controlling", "controlled", "priority"),
    [
        (1, 1, 2**32 + 2),
        (2, 1, 2**32 + 2 * 2 + 1),
        (1, 2, 2**32 + 2 * 2),
        (2130706431, 1694498815, 2**32 * 1694498815 + 2 * 2130706431 + 1),
        (2130706431, 2130706431, 9151314442783293438),
    ],
)
def test_pair_priority(controlling, controlled, priority):
    assert pair_priority(controlling, controlled) == priority


def test_both_agents_order_pairs_alike():
    priorities = [(2130706431, 16777215), (1694498815, 1862270975), (16777215, 2130706431)]
    assert len({pair_priority(g, d) for g, d in priorities}) == len(priorities)


def test_a_check_says_what_a_peer_reflexive_candidate_would_have():
    assert peer_reflexive_priority(host_candidate("192.0.2.1")) == 1862270975


def test_a_check_from_a_relay_does_not_pass_for_direct():
    relayed = relayed_candidate("192.0.2.9")
    assert peer_reflexive_priority(relayed) == relayed.priority


def test_a_peer_reflexive_candidate_inherits_the_preference_of_its_base():
    base = TransportAddress("192.0.2.1", 4000)
    local = LocalCandidate(Candidate(HOST, base, 1, "1"), base, 1000)
    assert peer_reflexive_priority(local) == 110 << 24 | 1000 << 8 | 255


@pytest.mark.parametrize(
    ("hosts", "order"),
    [
        (["192.0.2.1"], ["192.0.2.1"]),
        (["192.0.2.1", "2001:db8::1"], ["2001:db8::1", "192.0.2.1"]),
        (
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"],
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"],
        ),
        (
            ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"],
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"],
        ),
    ],
)
def test_families_are_interleaved(hosts, order):
    preferences = local_preferences(hosts)
    assert sorted(preferences, key=preferences.get, reverse=True) == order
    assert len(set(preferences.values())) == len(hosts)


def test_a_family_does_not_wait_until_all_checks_of_the_other_are_over():
    preferences = local_preferences([f"2001:db8::{n}" for n in range(4)] + [f"192.0.2.{n}" for n in range(4)])
    order = [":" in host for host in sorted(preferences, key=preferences.get, reverse=True)]
    assert order == [True, False] * 4


def test_relays_by_datagram_come_before_relays_by_stream():
    ways = [("udp", ""), ("tcp", ""), ("tls", ""), ("wss", ""), ("udp", "http"), ("tcp", "tor")]
    preferences = [
        relay_preference(65535, transport, index, proxy) for transport, proxy in ways for index in range(3)
    ]
    assert preferences == sorted(preferences, reverse=True)
    assert len(set(preferences)) == len(preferences)


def test_the_transport_of_a_relay_counts_less_than_the_interface():
    first, second = local_preferences(["192.0.2.1", "192.0.2.2"]).values()
    assert relay_preference(first, "wss", 63, "tor") > relay_preference(second, "udp", 0)
