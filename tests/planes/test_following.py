"""The kernel plane while the devices of its addresses change under a relay that runs."""

import time

import pytest
from planes.lab import PLANES, lab

pytestmark = pytest.mark.slow

FOLLOWED_WITHIN = 20.0


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def it(kernel_program, request, tmp_path_factory):
    flags = ("--workers", str(request.param))
    with lab(PLANES["native"], tmp_path_factory.mktemp("relay"), flags) as made:
        yield made


def test_a_device_that_changed_is_served_by_the_kernel_again(it):
    ours = it.hosts.interfaces[1]
    with it.turn() as client, it.peer() as peer:
        channel = client.bind(peer.getsockname())
        both_ways(client, channel, peer, 100)
        times = attached(it, ours)
        it.hosts.server.ip("link", "set", ours, "mtu", "1300")
        wait_until(lambda: attached(it, ours) == times + 1, it)

        # More than the device takes now: what the kernel learned before would lose it.
        client.send(channel, bytes(1280))
        assert len(peer.recv(65535)) == 1280
        before = by_the_kernel(it)
        both_ways(client, channel, peer, 100)
        wait_until(lambda: by_the_kernel(it) - before >= 180, it)
        it.hosts.server.ip("link", "set", ours, "mtu", "1500")
        wait_until(lambda: attached(it, ours) == times + 2, it)


def test_a_device_with_another_mac_address_is_served_by_the_kernel_again(it):
    ours = it.hosts.interfaces[1]
    with it.turn() as client, it.peer() as peer:
        channel = client.bind(peer.getsockname())
        times = attached(it, ours)
        it.hosts.server.ip("link", "set", ours, "address", "02:00:00:00:88:99")
        it.hosts.peer.ip("neigh", "flush", "all")
        wait_until(lambda: attached(it, ours) == times + 1, it)
        both_ways(client, channel, peer, 10)
        before = by_the_kernel(it)
        both_ways(client, channel, peer, 100)
        wait_until(lambda: by_the_kernel(it) - before >= 180, it)


def both_ways(client, channel, peer, packets):
    for number in range(packets):
        data = b"%05d" % number
        client.send(channel, data)
        received, relayed = peer.recvfrom(65535)
        assert received == data
        peer.sendto(data, relayed)
        assert client.receive() == (channel, data)


def attached(it, interface):
    """How often the log says that it has the programs, natively."""
    lines = it.server.process.output().splitlines()
    return sum(
        "kernel plane attached" in line and f'"{interface}"' in line and '"native"' in line for line in lines
    )


def by_the_kernel(it):
    return it.server.scrape().total("turnrelay_relayed_packets_total", plane="xdp", transport="udp")


def wait_until(done, it):
    deadline = time.monotonic() + FOLLOWED_WITHIN
    while not done():
        assert time.monotonic() < deadline, it.server.process.output()
        time.sleep(0.2)
