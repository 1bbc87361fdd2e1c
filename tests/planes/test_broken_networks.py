"""Devices and addresses that go away under a relay with traffic, and come back: what was set up goes on."""

from contextlib import suppress

import pytest
from planes.lab import PEER, PLANES, RELAY, SERVER, Hosts, Lab, drain, lab
from support.netns import add_address
from support.requirements import require_program

pytestmark = pytest.mark.slow

RECOVERED_WITHIN = 30.0


@pytest.fixture(scope="module", params=["native", "userspace"])
def it(kernel_program, request, tmp_path_factory):
    with lab(PLANES[request.param], tmp_path_factory.mktemp("relay")) as made:
        yield made


@pytest.fixture
def ends(it: Lab):
    """A client with a channel, and its peer."""
    with it.turn() as client, it.peer() as peer:
        channel = client.bind(peer.getsockname())
        for sock in (client.sock, peer):
            sock.settimeout(0.3)
        yield client, channel, peer


def passes(client, channel, peer) -> bool:
    """Whether data goes through, both ways."""
    for sock in (client.sock, peer):
        drain(sock)
        sock.settimeout(0.3)
    with suppress(TimeoutError, OSError):
        client.send(channel, b"there")
        _, relayed = peer.recvfrom(100)
        peer.sendto(b"and back", relayed)
        return client.receive(0.3) == (channel, b"and back")
    return False


def recovers(it: Lab, ends) -> None:
    process = it.server.process
    process.wait_until(lambda: passes(*ends), RECOVERED_WITHIN)
    if it.plane.mode:
        process.wait_until(lambda: by_the_kernel(it, ends) >= 15, RECOVERED_WITHIN)
    assert "Traceback" not in process.output()


def by_the_kernel(it: Lab, ends) -> float:
    """What of ten packets each way it moved; zero if one was late."""
    before = it.server.scrape().total("turnrelay_relayed_packets_total", plane="xdp")
    if not all(passes(*ends) for _ in range(10)):
        return 0.0
    return it.server.scrape().total("turnrelay_relayed_packets_total", plane="xdp") - before


def fails(it: Lab, ends) -> None:
    it.server.process.wait_until(lambda: not passes(*ends), RECOVERED_WITHIN)


@pytest.mark.parametrize("side", [0, 1], ids=["clients", "peers"])
def test_a_device_that_was_down(it, ends, side):
    device, own = it.hosts.interfaces[side], (SERVER, RELAY)[side]
    it.hosts.server.ip("link", "set", device, "down")
    fails(it, ends)
    it.hosts.server.ip("link", "set", device, "up")
    add_address(it.hosts.server, device, f"{own[6]}/64")  # which the system takes off, unlike that of IPv4
    recovers(it, ends)


def test_no_address_at_all(it, ends):
    server, own = it.hosts.server, list(zip(it.hosts.interfaces, (SERVER, RELAY), strict=True))
    for device, _ in own:
        server.ip("address", "flush", "dev", device)
    fails(it, ends)
    for device, addresses in own:
        add_address(server, device, f"{addresses[4]}/24")
        add_address(server, device, f"{addresses[6]}/64")
    recovers(it, ends)


def test_a_device_that_was_removed_and_made_anew(it, ends):
    hosts, device = it.hosts, it.hosts.interfaces[1]
    hosts.server.ip("link", "del", device)
    fails(it, ends)
    assert it.server.get("/readyz")[0] == 200
    make_cable(hosts, device, it.plane)
    recovers(it, ends)


def make_cable(hosts: Hosts, ours: str, plane) -> None:
    theirs = "right1"
    hosts.server.ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", hosts.peer.name)
    for host, device, addresses in ((hosts.server, ours, RELAY), (hosts.peer, theirs, PEER)):
        add_address(host, device, f"{addresses[4]}/24")
        add_address(host, device, f"{addresses[6]}/64")
        host.ip("link", "set", device, "up")
    for wanted, feature in ((plane.gro, ("gro", "on")), (plane.finished, ("tx", "off"))):
        if wanted:
            hosts.peer.command(require_program("ethtool"), "-K", theirs, *feature)
    hosts.peer.ip("route", "replace", "10.88.1.0/24", "via", RELAY[4])
