"""`peerpath discover` names every kind of the lab, with coturn's help and with our own server's.

The kinds have been judged before, by programs nobody here wrote (test_nat_kinds.py).
"""

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.relay import Access
from support.relay import Site as RelaySite
from support.requirements import unavailable
from support.turnrelay_server import TurnRelayServer

from natlab.lab import KINDS, MATRIX, Dependence, Lab, PortAssignment, Realm, Server, Site, can_punch
from natlab.tools import CoturnBehaviourServer

WORDS = {
    Dependence.ENDPOINT_INDEPENDENT: "endpoint-independent",
    Dependence.ADDRESS_DEPENDENT: "address-dependent",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "address-and-port-dependent",
}
TYPES = {
    "open": "open_internet",
    "firewall": "firewall",
    "full-cone": "full_cone",
    "address-restricted": "address_restricted",
    "port-restricted": "port_restricted",
    "linux": "port_restricted",
    "address-dependent": "symmetric",
    "symmetric": "symmetric",
    "symmetric-sequential": "symmetric",
    "linux-random": "symmetric",
    "cgnat": "port_restricted",
    "udp-blocked": "blocked",
}
PORTS = {
    PortAssignment.PRESERVATION: "preserved",
    PortAssignment.SEQUENTIAL: "sequential",
    PortAssignment.RANDOM: "random",
}
# What they find depends on packets that come in time.
pytestmark = pytest.mark.alone

AT_ONCE = 4  # programs; two cores start no more than that without keeping packets waiting
PATIENCE = 100.0

Result = dict[str, Any]


@pytest.fixture(scope="module")
def lab(lab_is_possible: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def sites(lab: Lab) -> dict[str, Site]:
    return {kind: lab.site(kind, delay=0.01) for kind in MATRIX}


@pytest.fixture(scope="module")
def coturn(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = lab.server()
    with CoturnBehaviourServer(server, tmp_path_factory.mktemp("coturn")):
        yield server


@pytest.fixture(scope="module")
def turnrelay(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = lab.server()
    folder = tmp_path_factory.mktemp("turnrelay")
    site = RelaySite.prepare(folder, server.address, namespace=server.namespace)
    flags = ["--alternate-ip", server.alternate_address]
    with TurnRelayServer(site, Access(), flags=flags):
        yield server


def peerpath() -> Path:
    command = Path(sys.executable).with_name("peerpath")
    if not command.exists():
        unavailable(f"peerpath is not installed beside {sys.executable}")
    return command


def discover_all(sites: dict[str, Site], server: Server) -> dict[str, Result]:
    """All kinds, a few at a time."""
    results: dict[str, Result] = {}
    kinds = iter(sites)
    while batch := list(itertools.islice(kinds, AT_ONCE)):
        argv = [peerpath(), "discover", "--stun", server.address, "--json"]
        running = {kind: sites[kind].host.popen(argv) for kind in batch}
        results |= {kind: json.loads(process.wait(PATIENCE)) for kind, process in running.items()}
    return results


@pytest.fixture(scope="module")
def by_coturn(sites: dict[str, Site], coturn: Server) -> dict[str, Result]:
    return discover_all(sites, coturn)


@pytest.fixture(scope="module")
def by_turnrelay(sites: dict[str, Site], turnrelay: Server) -> dict[str, Result]:
    return discover_all(sites, turnrelay)


@pytest.fixture(params=["by_coturn", "by_turnrelay"])
def results(request: pytest.FixtureRequest) -> dict[str, Result]:
    found: dict[str, Result] = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("name", [name for name in MATRIX if KINDS[name].udp_passes])
def test_a_nat_is_described_as_it_is(results: dict[str, Result], sites: dict[str, Site], name: str) -> None:
    kind, result = KINDS[name], results[name]

    assert result["mapping"] == WORDS[kind.mapping]
    assert result["filtering"] == WORDS[kind.filtering]
    assert result["nat_type"] == TYPES[name]
    assert result["udp_blocked"] is False
    assert result["translated"] is kind.translates
    assert result["public_address"].startswith(f"{sites[name].public_address}:")
    assert result["hairpinning"] is (kind.hairpin if kind.translates else None)
    # What the kernel's own NAT makes of ports is its own business where it is told to be random.
    if kind.layers[-1].realm is not Realm.KERNEL:
        assert result["port_assignment"] == PORTS[kind.ports]


def test_blocked_udp_is_told_from_a_dead_server(results: dict[str, Result]) -> None:
    result = results["udp-blocked"]

    assert result["udp_blocked"] is True
    assert result["nat_type"] == "blocked"
    assert result["mapping"] == result["filtering"] == "unknown"
    assert result["public_address"] is not None  # as TCP shows it


def test_who_can_connect_with_whom_follows_from_what_was_found(by_coturn: dict[str, Result]) -> None:
    """The prediction from the discovered behaviours against the lab's own theory: 73 of 144."""
    from peerpath.nat import NatBehaviour, can_connect_directly
    from peerpath.nat.behaviour import Dependence as Found

    behaviours = {
        name: NatBehaviour(
            Found(result["mapping"]),
            Found(result["filtering"]),
            result["translated"],
            udp_blocked=result["udp_blocked"],
        )
        for name, result in by_coturn.items()
    }
    pairs = list(itertools.product(MATRIX, repeat=2))
    predicted = {pair for pair in pairs if can_connect_directly(behaviours[pair[0]], behaviours[pair[1]])}

    assert predicted == {pair for pair in pairs if can_punch(*pair)}
    assert len(predicted) == 73


@pytest.mark.slow
def test_the_lifetime_of_a_mapping_is_measured(lab: Lab, coturn: Server) -> None:
    site = lab.site("port-restricted", mapping_timeout=3.0)
    program = (
        "import asyncio, sys; from stunwire import TransportAddress;"
        "from peerpath.nat.lifetime import measure_mapping_lifetime as measure;"
        "server = TransportAddress(sys.argv[1], 3478);"
        "print(asyncio.run(measure(server, shortest=1, longest=6, precision=0.3)))"
    )
    seconds = float(site.host.run([sys.executable, "-c", program, coturn.address], timeout=60))

    assert 2.0 <= seconds <= 3.5
