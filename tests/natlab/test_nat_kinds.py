"""Each kind of NAT is what the table says, by the word of programs nobody here wrote, and by our own probe.

Both programs run at once behind all twelve kinds: they spend their time waiting for what a filter drops.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import pytest

from natlab.lab import KINDS, MATRIX, Dependence, Lab, PortAssignment, Realm, Server, Site
from natlab.lab.probe import Blocked, Probe
from natlab.tools import CoturnBehaviourServer, NatDiscovery, StunClient

pytestmark = pytest.mark.alone

UDP_KINDS = [name for name in MATRIX if KINDS[name].udp_passes]
NATS = [name for name in UDP_KINDS if KINDS[name].translates]
EXTRA_KINDS = ["symmetric-block", "cgnat-symmetric", "double-nat"]


@dataclasses.dataclass
class Findings:
    site: Site
    natdiscovery: NatDiscovery
    stun_client: StunClient


@dataclasses.dataclass
class World:
    server: Server
    sites: dict[str, Site]
    findings: dict[str, Findings]


@pytest.fixture(scope="module")
def world(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab() as lab:
        server = lab.server()
        sites = {name: lab.site(name) for name in [*MATRIX, *EXTRA_KINDS]}
        with CoturnBehaviourServer(server, tmp_path_factory.mktemp("coturn")):
            findings = {
                name: Findings(site, NatDiscovery(site.host, server), StunClient(site.host, server))
                for name, site in sites.items()
            }
            yield World(server, sites, findings)


@pytest.fixture(scope="module")
def probe(world: World) -> Iterator[Probe]:
    with Probe(world.server) as probe:
        yield probe


@pytest.mark.parametrize("name", UDP_KINDS + EXTRA_KINDS)
def test_natdiscovery_finds_the_mapping_and_filtering_of_the_table(world: World, name: str) -> None:
    found, kind = world.findings[name].natdiscovery, KINDS[name]
    assert (found.mapping, found.filtering) == (kind.mapping, kind.filtering)
    assert found.says_no_nat == (not kind.translates)


@pytest.mark.parametrize("name", UDP_KINDS + EXTRA_KINDS)
def test_stun_client_finds_the_table_as_far_as_it_can_tell(world: World, name: str) -> None:
    found, kind = world.findings[name].stun_client, KINDS[name]
    assert found.mapping_is_independent == (kind.mapping is Dependence.ENDPOINT_INDEPENDENT)
    if found.mapping_is_independent:
        assert found.filtering is kind.filtering
    if kind.translates:
        # It knows preserved ports, and "random" ones, which sequential ones are to it too.
        assert found.preserves_ports == (kind.ports is PortAssignment.PRESERVATION)
        # turnutils_natdiscovery -H is not asked: it sends from another socket to the mapped address, and
        # takes the filter of "address-restricted", which drops that, for a lack of hairpinning.
        # A mapping that depends on the endpoint brings the packet back from a port that no filter expects.
        assert found.hairpins == (kind.hairpin and found.mapping_is_independent)


def test_stun_client_calls_hosts_without_nat_open_and_firewalled(world: World) -> None:
    assert world.findings["open"].stun_client.verdict == ["Open"]
    assert world.findings["firewall"].stun_client.verdict == ["Firewall"]


def test_both_tools_find_udp_blocked(world: World) -> None:
    found = world.findings["udp-blocked"]
    assert found.stun_client.is_blocked
    assert found.natdiscovery.mapping is None
    assert found.natdiscovery.filtering is None


@pytest.mark.parametrize("name", UDP_KINDS + EXTRA_KINDS)
def test_our_probe_finds_the_mapping_and_filtering_of_the_table(
    world: World, probe: Probe, name: str
) -> None:
    site = world.sites[name]
    assert (probe.mapping(site.host), probe.filtering(site.host)) == (site.kind.mapping, site.kind.filtering)


def test_our_probe_finds_udp_blocked(world: World, probe: Probe) -> None:
    with pytest.raises(Blocked):
        probe.mapping(world.sites["udp-blocked"].host)


@pytest.mark.parametrize("name", NATS + EXTRA_KINDS)
def test_external_ports_are_assigned_as_the_table_says(world: World, probe: Probe, name: str) -> None:
    site = world.sites[name]
    ports = probe.external_ports(site.host, 8)
    external = [port for _, port in ports]
    steps = [after - before for before, after in itertools.pairwise(external)]
    match site.kind.ports:
        case PortAssignment.PRESERVATION:
            assert all(internal == external for internal, external in ports)
        case PortAssignment.SEQUENTIAL:
            assert steps == [1] * 7
        case PortAssignment.BLOCK:
            # Once in a while it comes to the end of its block and starts anew.
            assert sum(1 <= step <= 4 for step in steps) >= 6
            assert max(external) - min(external) < 512
        case PortAssignment.RANDOM:
            # Eight ports out of 64,000 lie this near to each other once in 10^12 times.
            assert max(external) - min(external) > 1000
            assert all(internal != external for internal, external in ports)


@pytest.mark.parametrize("name", [name for name in NATS if KINDS[name].layers[0].realm is Realm.EXACT])
def test_a_taken_port_is_not_given_again(world: World, probe: Probe, name: str) -> None:
    """RFC 4787 REQ-3a: no port overloading, also where two hosts want to preserve the same one."""
    site = world.sites[name]
    second = site.hosts[1] if len(site.hosts) > 1 else site.add_host()
    with site.host.socket() as one, second.socket(port=one.getsockname()[1]) as other:
        assert probe.observe(one) != probe.observe(other)


def test_public_addresses_are_what_the_server_sees(world: World, probe: Probe) -> None:
    for name in UDP_KINDS + EXTRA_KINDS:
        with world.sites[name].host.socket() as source:
            assert probe.observe(source)[0] == world.sites[name].public_address
