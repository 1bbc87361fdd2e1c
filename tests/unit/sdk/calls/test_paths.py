"""What a path is called: by the way to this side's relay."""

import pytest
from peerpath.calls.outcome_reporter import method_of
from peerpath.calls.paths import application_path
from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate
from peerpath.ice.outputs import Path
from stunwire import TransportAddress

HERE, THERE = TransportAddress("192.0.2.1", 1), TransportAddress("192.0.2.2", 2)


@pytest.mark.parametrize(
    ("via", "proxy", "kind", "transport", "method"),
    [
        ("udp", "", "relay", "turn-udp", "relay_udp"),
        ("tcp", "", "relay", "turn-tcp", "relay_tcp"),
        ("tls", "", "relay", "turn-tls", "relay_tls"),
        ("tls", "http", "relay", "turn-tls-http", "proxy"),
        ("wss", "", "tunnel", "turn-wss", "http"),
        ("wss", "socks5", "tunnel", "turn-wss-socks5", "proxy"),
        ("tls", "tor", "onion", "turn-tls-tor", "onion"),
        ("wss", "tor", "onion", "turn-wss-tor", "onion"),
    ],
)
def test_relayed_paths(via, proxy, kind, transport, method):
    local = LocalCandidate(Candidate(CandidateType.RELAYED, HERE, 1, "a"), HERE, via=via, proxy=proxy)
    path = application_path(Path(local, Candidate(CandidateType.HOST, THERE, 1, "b"), True, None))
    assert (path.kind, path.transport, method_of(path).value) == (kind, transport, method)


@pytest.mark.parametrize(
    ("via", "proxy", "transport", "method"),
    [
        ("tcp", "", "turn-tcp-tcp", "tcp_relay"),
        ("tls", "", "turn-tls-tcp", "tcp_relay"),
        ("tls", "socks5", "turn-tls-tcp-socks5", "proxy"),
    ],
)
def test_paths_by_relays_that_meet_the_peer_over_tcp(via, proxy, transport, method):
    candidate = Candidate(CandidateType.RELAYED, HERE, 1, "a", transport="tcp")
    local = LocalCandidate(candidate, HERE, via=via, proxy=proxy)
    remote = Candidate(CandidateType.HOST, THERE, 1, "b", transport="tcp")
    path = application_path(Path(local, remote, True, None))
    assert (path.kind, path.transport, method_of(path).value) == ("tcp_relay", transport, method)


def test_a_direct_path_is_no_relay():
    local = LocalCandidate(Candidate(CandidateType.HOST, HERE, 1, "a"), HERE)
    path = application_path(Path(local, Candidate(CandidateType.SERVER_REFLEXIVE, THERE, 1, "b"), True, None))
    assert (path.kind, path.transport) == ("srflx", "udp")
