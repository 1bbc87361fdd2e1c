"""What every plane does, through a real relay, between hosts."""

import itertools
import os
import random
import signal
import socket
import time
from collections import Counter

import pytest
from planes.lab import CLIENT, PEER, PLANES, PORT, RELAY, SERVER, Lab, drain, lab
from planes.turn_socket import udp_socket
from stunwire import Message, MessageClass, Method
from support.netns import inside
from turnrelay.relay.kernel.layouts import REFRESH_NS

FAMILIES = list(itertools.product((4, 6), (4, 6)))
SIZES = [0, 1, 2, 3, 4, 5, 100, 172, 555, 1200, 1232, 1233, 1400, 1444, 1468, 1472, 1473, 3000, 9000]
QUIET = 0.3
KNOWN_FOR = 0.8 * REFRESH_NS / 1e9
"""Seconds in which no packet goes through the process, where others overtake it, to learn a next hop anew."""


@pytest.fixture(scope="module", params=PLANES)
def it(request, kernel_program, tmp_path_factory):
    with lab(PLANES[request.param], tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_data_arrives_whole_both_ways_in_every_size(it: Lab, client, peer):
    with it.turn(client, peer) as turn, it.peer(peer) as far:
        channel = turn.bind(far.getsockname()[:2])
        for _ in range(2):
            for size in SIZES:
                data = os.urandom(size)
                turn.send(channel, data)
                arrived, source = far.recvfrom(65535)
                assert arrived == data
                assert source[:2] == tuple(turn.relayed)
                far.sendto(data, source)
                assert turn.receive() == (channel, data)


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_bursts_arrive_whole_and_in_order_whatever_the_mtu(it: Lab, client, peer):
    """Packets of one size may be handed to the system together, which it refuses beyond the MTU."""
    with it.turn(client, peer) as turn, it.peer(peer) as far:
        channel = turn.bind(far.getsockname()[:2])
        turn.send(channel, b"learn")
        _, relay = far.recvfrom(100)
        far.sendto(b"learn", relay)
        turn.receive()
        for size in (172, 1472, 3000):
            burst = [bytes([number]) * size for number in range(16)]
            for data in burst:
                turn.send(channel, data)
            assert [far.recv(65535) for _ in burst] == burst
            for data in burst:
                far.sendto(data, relay)
            assert [turn.receive() for _ in burst] == [(channel, data) for data in burst]


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_indications_carry_data_both_ways_in_every_size(it: Lab, client, peer):
    before = it.relayed()
    with it.turn(client, peer) as turn, it.peer(peer) as far:
        address = far.getsockname()[:2]
        turn.permit(address)
        for size in SIZES:
            data = os.urandom(size)
            turn.indicate(address, data)
            arrived, source = far.recvfrom(65535)
            assert arrived == data
            assert source[:2] == tuple(turn.relayed)
            far.sendto(data, source)
            assert turn.receive_indication() == (address, data)
    it.wait_until_relayed(before, (len(SIZES), sum(SIZES)) * 2)


def test_indications_reach_permitted_hosts_and_ports_that_are_not_the_relays_own(it: Lab):
    with it.turn() as turn, it.peer() as far:
        address = far.getsockname()
        turn.permit(address)
        for number in range(3):
            for nobody in ((CLIENT[4], address[1]), (RELAY[4], PORT), (PEER[4], 0)):
                turn.indicate(nobody, b"x")
            turn.indicate(address, b"%d" % number)
            assert far.recv(100) == b"%d" % number
        time.sleep(QUIET)
        assert drain(far) == []


def test_channels_of_one_client_are_kept_apart(it: Lab):
    with it.turn() as turn, it.peer() as first, it.peer() as second:
        channels = {turn.bind(far.getsockname()): far for far in (first, second)}
        for round_number in range(3):
            for channel, far in channels.items():
                data = b"%d %d" % (channel, round_number)
                turn.send(channel, data)
                assert far.recv(100) == data
                far.sendto(data, tuple(turn.relayed))
                assert turn.receive() == (channel, data)


@pytest.mark.parametrize(("first", "second"), FAMILIES)
def test_two_clients_reach_each_other_through_their_relayed_addresses(it: Lab, first, second):
    with it.turn(first, 4) as here, it.turn(second, 4) as there:
        to_there, to_here = here.bind(tuple(there.relayed)), there.bind(tuple(here.relayed))
        for size in (0, 5, 172, 1200):
            data = os.urandom(size)
            here.send(to_there, data)
            assert there.receive() == (to_here, data)
            there.send(to_here, data)
            assert here.receive() == (to_there, data)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("in_indications", [False, True])
def test_a_closed_port_costs_a_flow_beside_it_neither_packets_nor_their_order(
    it: Lab, family, in_indications
):
    """Each packet to it brings an ICMP error to the socket that both use, at a time of its own.

    Indications always pass that socket, also where the kernel carries the channel to the closed port.
    """
    # No limits on such errors.
    for name, value in (("ipv4.icmp_ratemask", 0), ("ipv6.icmp.ratelimit", 0)):
        it.hosts.peer.command("sysctl", "-qw", f"net.{name}={value}")
    drops = it.drops()
    with it.turn(family, family) as turn, it.peer(family) as live:
        with it.peer(family) as was_there:
            closed = turn.bind(was_there.getsockname()[:2])
        address = live.getsockname()[:2]
        channel = turn.bind(address)
        errors, start = 0, time.monotonic()
        for burst in range(60):
            if it.plane.mode and not in_indications and time.monotonic() > start + KNOWN_FOR:
                break
            numbers = [b"%d" % number for number in range(burst * 16, burst * 16 + 16)]
            for number in numbers:
                if in_indications:
                    turn.indicate(address, number)
                else:
                    turn.send(channel, number)
                turn.send(closed, b"anybody there?")
            arrived = [live.recv(100) for _ in numbers]
            if not burst and it.plane.mode:
                # What the kernel carries from now on may overtake the last that userspace did.
                arrived.sort(key=int)
            assert arrived == numbers
            errors += len(drain(turn.sock))
        assert errors, "nobody was told that the port is closed"
    assert it.drops() == drops


def test_padded_channel_data_is_relayed_without_its_padding(it: Lab):
    with it.turn() as turn, it.peer() as far:
        channel = turn.bind(far.getsockname())
        for _ in range(3):
            turn.sock.send(channel.to_bytes(2, "big") + b"\x00\x05hello\x00\x00\x00")
            assert far.recv(100) == b"hello"
            turn.send(channel, b"whole")
            assert far.recv(100) == b"whole"


def test_strangers_are_heard_by_nobody(it: Lab):
    with it.turn() as turn, it.peer() as far, it.peer() as stranger:
        channel = turn.bind(far.getsockname())
        turn.send(channel, b"one")
        far.recv(100)
        turn.send(channel, b"two")
        far.recv(100)
        # A peer on the same host has a permission: it comes as a Data indication, not on the channel.
        stranger.sendto(b"stranger", tuple(turn.relayed))
        assert int.from_bytes(turn.sock.recv(2000)[:2], "big") == 0x0017
        turn.send(channel + 1, b"unbound")
        turn.send(0x7FFE, b"unbound")
        time.sleep(QUIET)
        assert drain(far) == []
        assert drain(stranger) == []


def test_another_client_cannot_use_the_channel(it: Lab):
    with it.turn() as turn, it.turn() as other, it.peer() as far:
        channel = turn.bind(far.getsockname())
        turn.send(channel, b"mine")
        far.recv(100)
        other.send(channel, b"not mine")
        time.sleep(QUIET)
        assert drain(far) == []


def test_nothing_passes_after_the_allocation_ended(it: Lab):
    with it.turn() as turn, it.peer() as far:
        channel = turn.bind(far.getsockname())
        for _ in range(3):
            turn.send(channel, b"x")
            far.recv(100)
        relayed = tuple(turn.relayed)
        with turn.sock.dup() as still_open:
            turn.close()
            time.sleep(QUIET)
            drain(still_open)
            still_open.send(channel.to_bytes(2, "big") + b"\x00\x01x")
            far.sendto(b"x", relayed)
            time.sleep(QUIET)
            far.setblocking(False)
            with pytest.raises((BlockingIOError, ConnectionRefusedError)):
                far.recv(100)
            assert [data for data in drain(still_open) if data[0] >= 0x40] == []


def test_counters_are_exact(it: Lab):
    before = it.relayed()
    with it.turn() as turn, it.peer() as far:
        channel = turn.bind(far.getsockname())
        for number in range(50):
            turn.send(channel, bytes(number))
            far.sendto(far.recv(100), tuple(turn.relayed))
            turn.receive()
    size = sum(range(50))
    it.wait_until_relayed(before, (50, size, 50, size))


def test_ipv6_packets_beyond_the_least_mtu_are_relayed(it: Lab):
    with it.turn(6, 6) as turn, it.peer(6) as far:
        channel = turn.bind(far.getsockname()[:2])
        for _ in range(20):
            data = os.urandom(1400)
            turn.send(channel, data)
            assert far.recv(65535) == data


def _random_traffic(it: Lab, seed: int) -> list[Counter[bytes]]:
    """What each flow's ends received."""
    chance = random.Random(seed)
    kinds = [chance.choice(FAMILIES) for _ in range(6)]
    turns = [it.turn(client, peer) for client, peer in kinds]
    fars = [it.peer(peer) for _, peer in kinds]
    channels = [turn.bind(far.getsockname()[:2]) for turn, far in zip(turns, fars, strict=True)]
    received: list[Counter[bytes]] = [Counter() for _ in range(12)]
    sent = [0] * 12
    for number in range(600):
        flow = chance.randrange(6)
        data = b"%d:" % number + chance.randbytes(chance.choice((0, 20, 172, 900, 1390, 2000)))
        way = chance.choice(("to peer", "from peer", "padded", "indication", "garbage"))
        turn, far, channel = turns[flow], fars[flow], channels[flow]
        if way == "to peer":
            turn.send(channel, data)
        elif way == "from peer":
            far.sendto(data, tuple(turn.relayed))
        elif way == "indication":
            turn.indicate(far.getsockname()[:2], data)
        elif way == "padded":
            frame = channel.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
            turn.sock.send(frame + bytes(-len(frame) % 4))
        else:
            turn.sock.send(channel.to_bytes(2, "big") + b"\xff\xff" + data)
        if way != "garbage":
            sent[2 * flow + (way == "from peer")] += 1
        if number % 50 == 49:
            time.sleep(0.05)
    time.sleep(QUIET)
    for flow, (turn, far) in enumerate(zip(turns, fars, strict=True)):
        received[2 * flow].update(drain(far, sent[2 * flow]))
        # Channel numbers are drawn by lot; the rest is to be the same.
        received[2 * flow + 1].update(frame[2:] for frame in drain(turn.sock, sent[2 * flow + 1]))
    for end in (*turns, *fars):
        end.close()
    return received


@pytest.mark.parametrize("seed", range(3))
def test_planes_deliver_the_same_of_random_traffic(it: Lab, reference: Lab, seed):
    before = reference.relayed(), it.relayed()
    expected, got = _random_traffic(reference, seed), _random_traffic(it, seed)
    assert sum(map(Counter.total, expected)) > 300
    assert got == expected
    moved = [
        tuple(map(int.__sub__, side.relayed(), start))
        for side, start in zip((reference, it), before, strict=True)
    ]
    assert moved[0] == moved[1]


@pytest.fixture(scope="module")
def reference(kernel_program, tmp_path_factory):
    with lab(PLANES["userspace, Python alone"], tmp_path_factory.mktemp("reference")) as made:
        yield made


# -- the kernel plane alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_the_kernel_carries_the_traffic(it: Lab, client, peer):
    """While the process is stopped, only the kernel can."""
    moved = it.plane.mode == "native" or it.plane.finished
    with it.turn(client, peer) as turn, it.peer(peer) as far:
        channel = turn.bind(far.getsockname()[:2])
        turn.send(channel, b"learn")
        _, relay = far.recvfrom(100)
        far.sendto(b"learn", relay)
        turn.receive()
        it.server.process.signal(signal.SIGSTOP)
        try:
            for number in range(20):
                turn.send(channel, b"%d" % number)
                far.sendto(b"%d" % number, relay)
            time.sleep(QUIET)
            least = 20 if moved else 0
            arrived = drain(far, least), [data[4:] for data in drain(turn.sock, least)]
        finally:
            it.server.process.signal(signal.SIGCONT)
        everything = [b"%d" % number for number in range(20)]
        assert arrived == ((everything, everything) if moved else ([], []))
        if not moved:
            for sock in (far, turn.sock):
                sock.settimeout(5)
                assert len([sock.recv(100) for _ in range(20)]) == 20


def test_the_plane_says_its_name(it: Lab):
    plane = "xdp" if it.plane.mode else "userspace"
    assert it.server.scrape().total("turnrelay_plane_info", plane=plane, mover=it.plane.mover) == 1


def test_traffic_counts_for_the_plane_that_moves_it(it: Lab):
    moved_by_kernel = it.plane.mode == "native" or it.plane.finished

    def moved(plane: str) -> float:
        return it.server.scrape().total("turnrelay_relayed_packets_total", plane=plane, direction="to_peer")

    before = moved("xdp"), moved("userspace")
    with it.turn() as turn, it.peer() as far:
        channel = turn.bind(far.getsockname()[:2])
        turn.send(channel, b"learn")
        far.recv(100)
        for _ in range(20):
            turn.send(channel, b"x")
            far.recv(100)
        deadline = time.monotonic() + 5
        while moved("xdp") + moved("userspace") < sum(before) + 21 and time.monotonic() < deadline:
            time.sleep(0.05)
    after = moved("xdp") - before[0], moved("userspace") - before[1]
    assert sum(after) == 21
    assert after[0 if moved_by_kernel else 1] >= 20


@pytest.mark.alone
def test_limits_of_bandwidth_hold_on_every_plane(it: Lab, tmp_path):
    limit = 40_000  # bytes a second; the smallest burst is 65,536
    config = tmp_path / "turnrelay.toml"
    config.write_text(f"[limits]\nbandwidth_per_allocation = {limit}\n")
    limits = ("--config", str(config))
    with lab(it.plane, tmp_path, limits) as limited, limited.turn() as turn, limited.peer() as far:
        channel = turn.bind(far.getsockname())
        turn.send(channel, b"x")
        far.recv(100)
        start = time.monotonic()
        for _ in range(400):
            turn.send(channel, bytes(1000))
            time.sleep(0.002)
        arrived = dropped = 0
        deadline = time.monotonic() + 10
        while arrived // 1000 + dropped < 400 and time.monotonic() < deadline:
            time.sleep(0.1)
            arrived += sum(map(len, drain(far)))
            dropped = int(limited.drops("bandwidth"))
        took = time.monotonic() - start
        assert 65_000 <= arrived <= 65_536 + limit * took + 2000
        assert arrived // 1000 + dropped == 400


@pytest.mark.alone
def test_what_stays_below_a_limit_of_bandwidth_passes_for_ever(it: Lab, tmp_path):
    """Send indications, which userspace pays for on every plane: in all twice what a burst holds."""
    config = tmp_path / "turnrelay.toml"
    config.write_text("[limits]\nbandwidth_per_allocation = 200000\nbandwidth_burst_seconds = 0.5\n")
    limits = ("--config", str(config))
    with lab(it.plane, tmp_path, limits) as limited, limited.turn() as turn, limited.peer() as far:
        turn.permit(far.getsockname())
        for _ in range(200):
            turn.indicate(far.getsockname(), bytes(1000))
            assert len(far.recv(2000)) == 1000
            time.sleep(0.01)  # so at most 100,000 bytes a second


def test_everything_is_detached_when_the_process_is_killed(kernel_program, tmp_path):
    with lab(PLANES["native"], tmp_path) as it:
        show = ("ip", "-d", "link", "show", it.hosts.interfaces[0])
        assert "xdp" in it.hosts.server.command(*show)
        it.server.process.signal(signal.SIGKILL)
        it.server.process.stop()
        deadline = time.monotonic() + 5
        while "xdp" in it.hosts.server.command(*show):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_other_traffic_passes(it: Lab):
    """Programs are on the interfaces; a ping, and another UDP service, know nothing of it."""
    it.hosts.client.command("ping", "-c", "2", "-i", "0.2", "-W", "2", SERVER[4])
    it.hosts.peer.command("ping", "-c", "2", "-i", "0.2", "-W", "2", RELAY[6])
    with inside(it.hosts.server):
        service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with service, it.peer() as far:
        service.bind((RELAY[4], 7777))
        service.settimeout(5)
        far.sendto(b"question", (RELAY[4], 7777))
        question, source = service.recvfrom(100)
        assert (question, source[0]) == (b"question", PEER[4])
        service.sendto(b"answer", source)
        assert far.recv(100) == b"answer"


def test_what_clients_send_without_leave_is_counted_by_reason(it: Lab):
    def counted() -> dict[str, float]:
        page = it.server.scrape()
        return {
            reason: page.total("turnrelay_discarded_messages_total", reason=reason)
            for reason in (
                "send_without_allocation",
                "send_without_permission",
                "malformed",
                "unbound_channel",
            )
        }

    with it.turn() as turn, udp_socket(CLIENT[4], it.hosts.client) as stranger, it.peer() as far:
        turn.bind(far.getsockname())
        before = counted()
        for _ in range(4):
            turn.indicate(("10.88.2.77", 9), b"no permission")
        for _ in range(3):
            turn.send(0x4FFF, b"no channel")
        indication = Message(MessageClass.INDICATION, Method.SEND).encode()
        turn.sock.send(indication)
        for _ in range(2):
            stranger.sendto(indication, (SERVER[4], PORT))
        deadline = time.monotonic() + 10
        expected = [before[reason] + more for reason, more in zip(before, (2, 4, 1, 3), strict=True)]
        while list(counted().values()) != expected:
            assert time.monotonic() < deadline, (counted(), expected)
            time.sleep(0.1)
