"""`peerpath punch` through real NATs: it connects where the rules let it, and says so where they don't."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Process, ProcessFailed
from support.requirements import unavailable

from natlab.lab import Lab, Server, Site, can_punch
from natlab.tools import CoturnBehaviourServer

PORT = 40000
PAIRS = [
    ("open", "symmetric"),
    ("firewall", "port-restricted"),
    ("full-cone", "linux-random"),
    ("address-restricted", "symmetric-sequential"),
    ("port-restricted", "port-restricted"),
    ("linux", "cgnat"),
    ("address-dependent", "address-restricted"),
    ("symmetric", "port-restricted"),
]


@pytest.fixture(scope="module")
def lab(lab_is_possible: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = lab.server()
    with CoturnBehaviourServer(server, tmp_path_factory.mktemp("coturn")):
        yield server


def peerpath(site: Site, *arguments: str) -> Process:
    command = Path(sys.executable).with_name("peerpath")
    if not command.exists():
        unavailable(f"peerpath is not installed beside {sys.executable}")
    return site.host.popen([command, *arguments])


def known_as(site: Site, server: Server) -> str:
    """What the other side is told: the address that the STUN server sees."""
    listed = peerpath(site, "candidates", "--stun", server.address, "--port", str(PORT), "--json").wait(30)
    last = json.loads(listed)[-1]
    return f"{last['host']}:{last['port']}"


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_hole_is_punched_where_the_rules_let_it(lab: Lab, server: Server, first: str, second: str) -> None:
    sites = lab.site(first, delay=0.01), lab.site(second, delay=0.01)
    addresses = [known_as(site, server) for site in sites]
    seconds = "20" if can_punch(first, second) else "6"
    options = ("--port", str(PORT), "--seconds", seconds, "--attempts", "1", "--json")
    running = [
        peerpath(site, "punch", peer, *options) for site, peer in zip(sites, reversed(addresses), strict=True)
    ]
    if not can_punch(first, second):
        for process in running:
            with pytest.raises(ProcessFailed, match=r"No hole to .* could be punched"):
                process.wait(30)
        return
    results = [json.loads(process.wait(60)) for process in running]
    for result, peer in zip(results, reversed(sites), strict=True):
        assert result["remote"].startswith(f"{peer.public_address}:")
        # There and back over two paths of 10 ms each; the rest is a busy machine.
        assert 40 <= result["round_trip_ms"] < 10_000


@pytest.mark.parametrize(
    ("peer", "taken_away", "said"),
    [
        ("11.0.0.10:40000", "address", "this machine is in no network"),
        ("11.0.0.10:40000", "route", "this machine has no route to it"),
        ("[2a00:11::10]:40000", "", "this machine has no IPv6 address, and no route to it"),
    ],
)
def test_without_a_way_out_that_is_said_at_once(lab: Lab, peer: str, taken_away: str, said: str) -> None:
    site = lab.site("full-cone")
    if taken_away == "address":
        site.host.run(["ip", "address", "flush", "dev", "eth0"])
    elif taken_away == "route":
        site.host.run(["ip", "route", "del", "default"])
    punching = peerpath(site, "punch", peer, "--seconds", "60")
    with pytest.raises(ProcessFailed):
        punching.wait(40)
    # As a terminal has it, with line ends anywhere.
    assert said in " ".join(punching.output().split())


def test_what_keeps_packets_from_leaving_is_named(lab: Lab) -> None:
    site = lab.site("full-cone")
    site.host.run(["nft", "add", "table", "inet", "gate"])
    site.host.run(["nft", "add", "chain", "inet", "gate", "out", "{ type filter hook output priority 0; }"])
    site.host.run(["nft", "add", "rule", "inet", "gate", "out", "meta", "l4proto", "udp", "drop"])
    punching = peerpath(site, "punch", "11.0.0.10:40000", "--seconds", "1", "--attempts", "1")
    with pytest.raises(ProcessFailed):
        punching.wait(40)
    assert "nothing could be sent to the peer: Operation not permitted" in " ".join(punching.output().split())
