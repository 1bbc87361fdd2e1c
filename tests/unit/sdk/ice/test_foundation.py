"""Foundations (RFC 8445 section 5.1.1.3): same type, base, server and transport, or not the same."""

import pytest
from peerpath.ice import CandidateType
from peerpath.ice.foundation import Foundations

HOST, SRFLX, RELAY = CandidateType.HOST, CandidateType.SERVER_REFLEXIVE, CandidateType.RELAYED
REFERENCE = (SRFLX, "192.0.2.1", "203.0.113.1", "udp")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (REFERENCE, True),
        ((RELAY, "192.0.2.1", "203.0.113.1", "udp"), False),
        ((SRFLX, "192.0.2.2", "203.0.113.1", "udp"), False),
        ((SRFLX, "192.0.2.1", "203.0.113.2", "udp"), False),
        ((SRFLX, "192.0.2.1", "203.0.113.1", "tcp"), False),
    ],
)
def test_what_makes_a_foundation(other, same):
    foundations = Foundations()
    assert (foundations.of(*REFERENCE) == foundations.of(*other)) is same


def test_host_candidates_have_no_server():
    foundations = Foundations()
    assert foundations.of(HOST, "192.0.2.1") == foundations.of(HOST, "192.0.2.1")
    assert foundations.of(HOST, "192.0.2.1") != foundations.of(HOST, "192.0.2.2")
