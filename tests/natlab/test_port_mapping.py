"""Port mapping against Debian's miniupnpd on the router of a Linux NAT: made, used, renewed, given back."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.miniupnpd import Miniupnpd
from support.processes import Process
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer, portmap_peer
from natlab.calls import exchange
from natlab.lab import Lab, Site

PORT = 4567


@pytest.fixture(scope="module")
def lab(lab_is_possible: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return lab.site("linux", delay=0.005)


class Mapper:
    """portmap_peer.py on the host of a site."""

    def __init__(
        self, site: Site, methods: str, *more: str, host: str | None = None, port: int = PORT
    ) -> None:
        address = host or site.host.address
        argv = [sys.executable, "-P", portmap_peer.__file__, address, str(port), methods, *more]
        self.process: Process = site.host.popen(argv)

    def said(self, key: str) -> list[Any]:
        lines = self.process.output().splitlines()
        return [said[key] for said in map(json.loads, filter(_is_whole, lines)) if key in said]

    def wait_for(self, ready: Callable[["Mapper"], bool]) -> None:
        self.process.wait_until(lambda: ready(self), timeout=60)

    def close(self) -> None:
        self.process.stop()
        assert self.said("closed") == [True], self.process.output()


def is_for_tcp(forward: str) -> bool:
    """nft shows the comparison of the protocol's number, 6, as it was written."""
    return "0x6 th dport" in forward


def _is_whole(line: str) -> bool:
    return line.startswith("{") and line.endswith("}")


@pytest.mark.parametrize(
    ("methods", "configuration"),
    [
        ("pcp", ()),
        ("nat-pmp", ()),
        ("upnp", ()),
        ("upnp", ("force_igd_desc_v1=yes",)),
        ("pcp,nat-pmp,upnp", ()),
        ("pcp,nat-pmp,upnp", ("enable_natpmp=no",)),
    ],
    ids=["PCP", "NAT-PMP", "UPnP-IGD 2", "UPnP-IGD 1", "all", "all where UPnP alone is there"],
)
def test_a_mapping_is_made_and_given_back(
    site: Site, tmp_path: Path, methods: str, configuration: tuple[str, ...]
) -> None:
    with Miniupnpd(site, tmp_path, *configuration) as router:
        mapper = Mapper(site, methods)
        mapper.wait_for(lambda mapper: mapper.said("mapping"))
        assert mapper.said("mapping") == [[site.public_address, PORT]]
        [forward] = router.forwards()
        assert f"dport {PORT} dnat ip to {site.host.address}:{PORT}" in forward
        mapper.close()
        assert _becomes(lambda: router.forwards() == [])


def test_the_firewall_of_an_ipv6_network_is_opened_by_pcp(lab: Lab, tmp_path: Path) -> None:
    site = lab.site("linux", ipv6="firewall")
    host = site.host.address6
    with Miniupnpd(site, tmp_path) as router:
        mapper = Mapper(site, "pcp,nat-pmp,upnp", host=host)
        mapper.wait_for(lambda mapper: mapper.said("mapping"))
        assert mapper.said("mapping") == [[host, PORT]]
        assert f"dport {PORT}" in router.pinholes()
        mapper.close()
        assert _becomes(lambda: f"dport {PORT}" not in router.pinholes())


@pytest.mark.parametrize("methods", ["pcp", "nat-pmp", "upnp"])
def test_a_mapping_for_connections_is_one_for_tcp(site: Site, tmp_path: Path, methods: str) -> None:
    with Miniupnpd(site, tmp_path) as router:
        mapper = Mapper(site, methods, "tcp")
        mapper.wait_for(lambda mapper: mapper.said("mapping"))
        [forward] = router.forwards()
        assert is_for_tcp(forward)
        assert f"dport {PORT} dnat ip to {site.host.address}:{PORT}" in forward
        mapper.close()
        assert _becomes(lambda: router.forwards() == [])


@pytest.mark.parametrize("methods", ["pcp", "nat-pmp", "upnp"])
def test_a_mapping_is_made_again_when_the_router_has_forgotten_it(
    site: Site, tmp_path: Path, methods: str
) -> None:
    with Miniupnpd(site, tmp_path) as router:
        mapper = Mapper(site, methods)
        mapper.wait_for(lambda mapper: mapper.said("mapping"))
        time.sleep(3)  # an epoch of 0 or 1 after one of 2 would pass for rounding
        router.reboot()
        made_again = _becomes(lambda: len(router.forwards()) == 1)
        forwards = router.forwards()
        mapper.close()
        assert made_again, (forwards, mapper.process.output(), router.process.output())
        assert _becomes(lambda: router.forwards() == [])


def test_a_mapping_is_renewed_for_as_long_as_it_is_wanted(site: Site, tmp_path: Path) -> None:
    # miniupnpd gives PCP clients what they ask for, and this much at most.
    with Miniupnpd(site, tmp_path, "max_lifetime=8", "min_lifetime=4") as router:
        ports = {"pcp": PORT, "nat-pmp": PORT + 1, "upnp": PORT + 2}
        mappers = {port: Mapper(site, method, "udp", "8", port=port) for method, port in ports.items()}
        for mapper in mappers.values():
            mapper.wait_for(lambda mapper: mapper.said("mapping"))
        time.sleep(11)
        assert len(router.forwards()) == 3
        for port, mapper in mappers.items():
            assert mapper.said("mapping") == [[site.public_address, port]]
            # Nobody gives it back: it ends by itself, so it was renewed before.
            mapper.process.signal(signal.SIGKILL)
        assert _becomes(lambda: router.forwards() == [])


def test_behind_a_second_nat_nothing_is_offered(lab: Lab, tmp_path: Path) -> None:
    inner = lab.site("linux", behind=lab.site("port-restricted"))
    with Miniupnpd(inner, tmp_path):
        mapper = Mapper(inner, "pcp,nat-pmp,upnp")
        mapper.wait_for(lambda mapper: len(mapper.said("method")) == 3)
        assert mapper.said("mapping") == []
        assert all(mapper.said("reason")), mapper.process.output()
        mapper.process.stop()


@pytest.mark.parametrize("peer_kind", ["symmetric", "linux-random"])
async def test_a_peer_whose_ports_are_random_connects_directly_thanks_to_it(
    lab: Lab, tmp_path: Path, peer_kind: str
) -> None:
    server = lab.server()
    mapped, peer = lab.site("linux", delay=0.005), lab.site(peer_kind, delay=0.005)
    access = Access(ice_peer.USER, ice_peer.PASSWORD)
    relay = TurnRelayServer(RelaySite.prepare(tmp_path, server.address, namespace=server.namespace), access)
    at_server = f"{server.address}:{TurnRelayServer.port}"
    uris = [f"stun:{at_server}", f"turn:{at_server}?transport=udp"]
    with relay, Miniupnpd(mapped, tmp_path) as router:
        async with exchange({"mapped": mapped, "peer": peer}, uris, "--port-mapping") as board:
            async with board.call("mapped", "peer") as call:
                assert await call.until(lambda call: call.is_direct and call.has_heard, 60), str(call)
                assert len(router.forwards()) == 1
            assert call.caller.path is not None
            assert call.caller.path["technique"] == "portmap"
            assert "PCP at" in call.caller.report
            assert "no answer" in call.called.report  # its own router maps no ports
            assert _becomes(lambda: router.forwards() == [])


async def test_where_no_udp_passes_a_peer_connects_to_the_port_that_was_mapped_for_tcp(
    lab: Lab, tmp_path: Path
) -> None:
    """The peer's NAT gives each destination another port, so that opening from both sides leads nowhere."""
    server = lab.server()
    mapped, peer = lab.site("linux", delay=0.005, passage="tcp"), lab.site("symmetric", delay=0.005)
    access = Access(ice_peer.USER, ice_peer.PASSWORD)
    relay = TurnRelayServer(RelaySite.prepare(tmp_path, server.address, namespace=server.namespace), access)
    at_server = f"{server.address}:{TurnRelayServer.port}"
    uris = [f"stun:{at_server}", f"turn:{at_server}?transport=tcp"]
    with relay, Miniupnpd(mapped, tmp_path) as router:
        async with exchange({"mapped": mapped, "peer": peer}, uris, "--port-mapping", "--tcp") as board:
            async with board.call("mapped", "peer") as call:
                assert await call.until(lambda call: call.is_direct and call.has_heard, 60), str(call)
                assert any(map(is_for_tcp, router.forwards())), router.rules()
            assert call.caller.path is not None
            assert (call.caller.path["technique"], call.caller.path["transport"]) == ("portmap", "tcp")
        async with (
            exchange({"mapped": mapped, "peer": peer}, uris, "--tcp") as board,
            board.call("mapped", "peer") as call,
        ):
            assert not await call.until(lambda call: call.is_direct, 8), str(call)


async def test_a_router_whose_outer_address_is_not_what_stun_servers_see_is_not_believed(
    lab: Lab, tmp_path: Path
) -> None:
    server = lab.server()
    inner, peer = lab.site("linux", behind=lab.site("port-restricted")), lab.site("open")
    relay = TurnRelayServer(
        RelaySite.prepare(tmp_path, server.address, namespace=server.namespace), Access("a", "b")
    )
    uris = [f"stun:{server.address}:{TurnRelayServer.port}"]
    with relay, Miniupnpd(inner, tmp_path, "ext_ip=8.8.8.8") as router:
        async with exchange({"inner": inner, "peer": peer}, uris, "--port-mapping") as board:
            async with board.call("inner", "peer") as call:
                assert await call.until(lambda call: call.is_direct and call.has_heard, 60), str(call)
            assert "8.8.8.8, but STUN servers see" in call.caller.report
            assert "srflx 8.8.8.8" not in call.caller.report
            assert _becomes(lambda: router.forwards() == [])


def _becomes(true: Callable[[], bool], within: float = 30.0) -> bool:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
