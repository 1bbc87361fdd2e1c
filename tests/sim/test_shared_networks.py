"""Two peers on one network: at home, behind one carrier, with and without hairpinning."""

import pytest
from peerpath.ice import CandidateType

from sim.kinds import APD, EI, HOME, KINDS
from sim.nat import NatKind, Ports
from sim.scenario import play

CARRIERS = {
    "hairpinning": NatKind(EI, EI, Ports.RANDOM, hairpin=True),
    "strict and hairpinning": NatKind(EI, APD, Ports.RANDOM, hairpin=True),
    "without hairpinning": NatKind(EI, APD, Ports.RANDOM),
}


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("firewall", "udp-blocked")])
def test_at_one_home_the_path_stays_at_home(kind):
    stage = play(a=kind, together="home", direct=True)
    assert stage.is_connected(direct=True)
    assert stage.connected_at < 0.2
    if kind != "open":
        stage.world.run(stage.world.now + 2)
        for host in (stage.a, stage.b):
            assert host.path.remote.address.host.startswith("192.168.1.")


@pytest.mark.parametrize("name", CARRIERS)
def test_behind_one_carrier(name):
    carrier = CARRIERS[name]
    stage = play(a=(HOME, carrier), b=(HOME, carrier), together="carrier", direct=carrier.hairpin, until=30)
    assert stage.is_connected(direct=carrier.hairpin)
    if not carrier.hairpin:
        # Neither knows its address inside the carrier's network, so only the relay remains.
        stage.world.run(stage.world.now + 20)
        assert stage.a.path.is_relayed


def test_directly_in_one_carriers_network_host_candidates_do():
    carrier = CARRIERS["without hairpinning"]
    stage = play(a=(carrier,), b=(carrier,), together="carrier", direct=True)
    assert stage.is_connected(direct=True)
    assert stage.a.path.local.type in (CandidateType.HOST, CandidateType.PEER_REFLEXIVE)


def test_the_same_private_address_at_two_homes_confuses_nobody():
    """Both are 192.168.1.10: a check to the peer's host candidate comes back to oneself, or to a stranger."""
    stage = play(a="port-restricted", b="port-restricted", direct=True)
    assert stage.a.base == stage.b.base
    assert stage.a.path.remote.type is not CandidateType.HOST
    stage.a.send(b"to the peer")
    stage.world.run(stage.world.now + 1)
    assert [data for _, data in stage.b.received] == [b"to the peer"]
    assert stage.a.received == []
