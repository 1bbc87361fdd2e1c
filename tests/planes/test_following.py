"""The kernel plane while the devices of its addresses change under a relay that runs."""

import os
import signal
import time
from contextlib import suppress

import pytest
from planes.lab import PLANES, RELAY, drain, lab
from planes.turn_socket import PATIENCE
from support.requirements import require_program

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


def test_a_relay_address_that_was_removed_is_nobodys_source_and_serves_again_when_it_is_back(it):
    ours = it.hosts.interfaces[1]
    with it.turn() as client, it.peer() as peer:
        channel = client.bind(peer.getsockname())
        both_ways(client, channel, peer, 20)
        it.hosts.server.ip("address", "del", f"{RELAY[4]}/24", "dev", ours)
        peer.settimeout(0.3)
        wait_until(lambda: not is_heard(client, channel, peer), it)
        it.hosts.server.ip("address", "add", f"{RELAY[4]}/24", "dev", ours)
        wait_until(lambda: is_heard(client, channel, peer), it)
        drain(peer)
        peer.setblocking(True)
        peer.settimeout(PATIENCE)
        wait_until(lambda: moved_by_the_kernel(it, client, channel, peer), it)


def test_a_device_that_no_longer_takes_frames_is_let_go_of_and_the_log_says_why(it):
    """As the other end of a veth without GRO; the process, which is stopped meanwhile, is not asked."""
    far = "right1"
    with it.turn() as client, it.peer() as peer:
        channel = client.bind(peer.getsockname())
        wait_until(lambda: moved_by_the_kernel(it, client, channel, peer), it)
        everything = [b"%d" % number for number in range(20)]
        everyone = it.hosts.server.pids()
        signal_all(everyone, signal.SIGSTOP)
        try:
            it.hosts.peer.command(require_program("ethtool"), "-K", far, "gro", "off")
            for data in everything:
                client.send(channel, data)
        finally:
            signal_all(everyone, signal.SIGCONT)
        wait_until(lambda: lost(it) >= 1, it)
        # The kernel noticed at the first, and had the process take those that came after.
        arrived = [peer.recv(100) for _ in range(len(everything) - lost(it))]
        assert arrived == everything[-len(arrived) :]
        assert lost(it) < 5
        wait_until(lambda: "kernel plane lost packets" in it.server.process.output(), it)
        wait_until(lambda: "the device loses frames that XDP sends" in it.server.process.output(), it)
        both_ways(client, channel, peer, 20)


def moved_by_the_kernel(it, client, channel, peer):
    before = by_the_kernel(it)
    both_ways(client, channel, peer, 20)
    return by_the_kernel(it) - before >= 30


def is_heard(client, channel, peer):
    client.send(channel, b"heard?")
    with suppress(TimeoutError):
        return bool(peer.recv(100))
    return False


def signal_all(pids, number):
    for pid in pids:
        os.kill(pid, number)


def lost(it):
    return int(it.server.scrape().total("turnrelay_dropped_packets_total", reason="device_refused"))


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
