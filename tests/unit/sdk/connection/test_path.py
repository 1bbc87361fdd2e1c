"""What the path that ICE selected is called for an application."""

from dataclasses import replace

import pytest
from peerpath.connection import Path, PathKind, path_from_ice
from peerpath.ice import Candidate, CandidateType, LocalCandidate
from peerpath.ice import Path as IcePath
from peerpath.ice.candidate import Technique
from peerpath.ice.priority import candidate_priority
from stunwire import TransportAddress

HOST, SRFLX, PRFLX, RELAY = (
    CandidateType.HOST,
    CandidateType.SERVER_REFLEXIVE,
    CandidateType.PEER_REFLEXIVE,
    CandidateType.RELAYED,
)


def ice_path(local: CandidateType, remote: CandidateType, transport: str = "udp") -> IcePath:
    near, far = TransportAddress("192.0.2.1", 1), TransportAddress("192.0.2.2", 2)
    return IcePath(
        LocalCandidate(Candidate(local, near, candidate_priority(local, 1), "1", transport=transport), near),
        Candidate(remote, far, candidate_priority(remote, 1), "1", transport=transport),
        nominated=True,
        rtt=0.02,
    )


@pytest.mark.parametrize(
    ("local", "remote", "transport", "kind"),
    [
        (HOST, HOST, "udp", PathKind.HOST),
        (HOST, SRFLX, "udp", PathKind.SRFLX),
        (HOST, PRFLX, "udp", PathKind.PRFLX),
        (SRFLX, HOST, "udp", PathKind.SRFLX),
        (PRFLX, SRFLX, "udp", PathKind.PRFLX),
        (RELAY, HOST, "udp", PathKind.RELAY),
        (HOST, RELAY, "udp", PathKind.RELAY),
        (HOST, HOST, "tcp", PathKind.TCP),
        (RELAY, HOST, "tcp", PathKind.TCP_RELAY),
        (HOST, RELAY, "tcp", PathKind.TCP_RELAY),
    ],
)
def test_the_kind_of_a_path(local, remote, transport, kind):
    path = path_from_ice(ice_path(local, remote, transport))
    assert path == Path(kind, transport, 0.02, "192.0.2.1 1", "192.0.2.2 2")
    assert path.kind.is_direct == (kind not in (PathKind.RELAY, PathKind.TCP_RELAY))


def test_whoever_gathered_it_knows_better():
    path = path_from_ice(ice_path(HOST, HOST), "turn-tls", kind=PathKind.TUNNEL, rtt=0.5)
    assert (path.kind, path.transport, path.rtt) == (PathKind.TUNNEL, "turn-tls", 0.5)


@pytest.mark.parametrize(
    ("technique", "kind"),
    [
        (Technique.PORT_MAPPING, PathKind.PORTMAP),
        (Technique.PREDICTION, PathKind.PREDICTED),
        (Technique.BIRTHDAY, PathKind.PREDICTED),
    ],
)
def test_what_it_took_to_get_through_says_more_than_the_type_of_a_candidate(technique, kind):
    path = ice_path(SRFLX, HOST)
    assert path_from_ice(replace(path, local=replace(path.local, technique=technique))).kind is kind
