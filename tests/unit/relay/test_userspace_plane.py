"""The userspace plane on loopback: what passes, in exactly which bytes, and what does not pass."""

import os
import socket
import struct
import sys

import pytest
from stunwire import AddressFamily, TransportAddress
from turnrelay.core.addresses import PeerAddress, RelayedAddress, Transport
from turnrelay.core.outputs import ChannelFlow, PermissionFlow
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.plane import NoRelayAddress, RelayHost, Traffic
from unit.relay.loopback import V4, V6, until

IPV4, IPV6 = AddressFamily.IPV4, AddressFamily.IPV6
COOKIE = 0x2112A442
FOREVER = 1e12
CHANNEL = 0x4000


async def wait_for(link, number):
    """Until the client was sent `number` frames."""
    await until(lambda: len(link.frames) >= number)


async def dropped(plane, reason, number=1):
    """Until as many packets were dropped for this reason, and for no other."""
    await until(lambda: plane.drops().get(reason) == number)
    assert plane.drops() == {reason: number}


def opened(plane, family=IPV4, *, account="alice", even_port=False):
    """A relayed address."""
    return plane.open(account, family, even_port=even_port, reserve_next=False).relay


def permit(plane, path, relay, host, expires_at=FOREVER):
    plane.grant(PermissionFlow(path, relay, host), expires_at)


def bind(plane, path, relay, channel, peer, expires_at=FOREVER):
    """A channel, with its permission as it always comes."""
    permit(plane, path, relay, peer.host, expires_at)
    plane.grant(ChannelFlow(path, relay, channel, peer), expires_at)


def xor_address(address, transaction):
    """XOR-PEER-ADDRESS by RFC 8489 section 14.2."""
    host, port = address
    family, packed = (
        (2, socket.inet_pton(socket.AF_INET6, host)) if ":" in host else (1, socket.inet_aton(host))
    )
    mask = struct.pack("!I", COOKIE) + transaction
    xored = bytes(one ^ other for one, other in zip(packed, mask, strict=False))
    return struct.pack("!xBH", family, port ^ COOKIE >> 16) + xored


def data_indication(frame, source, data):
    """The Data indication of RFC 8656 section 11.3 for `data`, with the transaction of `frame`."""
    transaction = frame[8:20]
    peer = xor_address(source, transaction)
    body = struct.pack("!HH", 0x0012, len(peer)) + peer
    body += struct.pack("!HH", 0x0013, len(data)) + data + bytes(-len(data) % 4)
    return struct.pack("!HHI", 0x0017, len(body), COOKIE) + transaction + body


def channel_data(channel, data, padded):
    """ChannelData (RFC 8656 sections 12.4 and 12.5)."""
    return struct.pack("!HH", channel, len(data)) + data + (bytes(-len(data) % 4) if padded else b"")


@pytest.fixture
def plane(relays):
    return relays.plane


SIZES = [0, 1, 2, 3, 4, 5, 172, 1200, 65_000]


# -- relayed addresses --------------------------------------------------------------------------------------


async def test_a_relay_is_a_bound_port_of_the_range(relays, plane):
    relay = opened(plane)
    assert relay.host == V4
    assert relays.ports[0] <= relay.port <= relays.ports[1]
    with pytest.raises(OSError, match="in use"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(relay)
    assert list(plane.ports()) == [(1, 20)]


async def test_a_closed_relay_is_no_longer_bound(plane):
    relay = opened(plane)
    plane.close(relay)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(relay)
    assert list(plane.ports()) == [(0, 20)]


async def test_closing_twice_or_what_never_was_is_nothing(relays, plane):
    relay = opened(plane)
    plane.close(relay)
    plane.close(relay)
    plane.close(RelayedAddress(TransportAddress(V4, 1)))
    assert [each.releases for each in relays.bandwidth.opened] == [1]
    assert list(plane.ports()) == [(0, 20)]


async def test_the_pool_is_used_to_the_last_port_and_no_further(new_relays):
    plane = new_relays(number=6).plane
    relays = {opened(plane) for _ in range(6)}
    assert len(relays) == 6
    with pytest.raises(NoRelayAddress):
        opened(plane)
    assert list(plane.ports()) == [(6, 6)]
    gone = relays.pop()
    plane.close(gone)
    assert opened(plane) == gone


async def test_ports_of_other_programs_are_passed_over(relays, plane):
    first, last = relays.ports
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(first, last, 2)]
    for other, port in zip(others, range(first, last, 2), strict=True):
        other.bind((V4, port))
    try:
        assert {opened(plane).port for _ in range(10)} == set(range(first + 1, last + 1, 2))
        with pytest.raises(NoRelayAddress):
            opened(plane)
        assert list(plane.ports()) == [(10, 20)]
    finally:
        for other in others:
            other.close()
    assert opened(plane).port in range(first, last, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
async def test_ports_of_other_programs_cost_no_descriptors(relays, plane):
    first, last = relays.ports
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(first, last + 1)]
    for other, port in zip(others, range(first, last + 1), strict=True):
        other.bind((V4, port))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(NoRelayAddress):
            opened(plane)
    assert len(os.listdir("/proc/self/fd")) == before
    for other in others:
        other.close()


async def test_an_even_port(plane):
    assert [opened(plane, even_port=True).port % 2 for _ in range(10)] == [0] * 10
    with pytest.raises(NoRelayAddress):
        opened(plane, even_port=True)
    assert opened(plane).port % 2 == 1


async def test_a_pair_of_ports(relays, plane):
    for number in range(10):
        pair = plane.open("alice", IPV4, even_port=True, reserve_next=True)
        assert pair.relay.port % 2 == 0
        assert pair.reserved == RelayedAddress(TransportAddress(V4, pair.relay.port + 1))
        assert {pair.relay, pair.reserved} <= plane.relays.keys()
        assert list(plane.ports()) == [(2 * number + 2, 20)]
    with pytest.raises(NoRelayAddress):
        plane.open("alice", IPV4, even_port=True, reserve_next=True)


async def test_a_pair_of_which_another_program_has_one_half(new_relays):
    relays = new_relays(number=4)
    plane, first = relays.plane, relays.ports[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((V4, first + 1))
        pair = plane.open("alice", IPV4, even_port=True, reserve_next=True)
        assert pair.relay.port == first + 2
        with pytest.raises(NoRelayAddress):
            plane.open("alice", IPV4, even_port=True, reserve_next=True)
    assert list(plane.ports()) == [(2, 4)]
    assert [each.releases for each in relays.bandwidth.opened].count(0) == 2


async def test_without_a_host_of_the_family(plane):
    with pytest.raises(NoRelayAddress):
        opened(plane, IPV6)


async def test_peers_are_told_the_external_address(new_relays):
    plane = new_relays(hosts=(RelayHost(V4, "203.0.113.1"),)).plane
    relay = opened(plane)
    assert relay.host == "203.0.113.1"
    with pytest.raises(OSError, match="in use"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((V4, relay.port))


async def test_hosts_of_one_family_take_turns(new_relays):
    plane = new_relays(hosts=(RelayHost(V4, V4), RelayHost("127.0.0.2", "127.0.0.2"))).plane
    hosts = [opened(plane).host for _ in range(6)]
    assert sorted(hosts) == [V4] * 3 + ["127.0.0.2"] * 3


async def test_a_host_without_free_ports_does_not_stand_in_the_way(new_relays):
    """508 is for a server that has no more relayed addresses (RFC 8656 section 19), and there are some."""
    plane = new_relays(hosts=(RelayHost(V4, V4), RelayHost("127.0.0.2", "127.0.0.2")), number=2).plane
    everything = [opened(plane) for _ in range(4)]
    for relay in everything:
        if relay.host == V4:
            plane.close(relay)
    assert {opened(plane).host, opened(plane).host} == {V4}


async def test_bandwidth_is_asked_for_the_account_and_given_back(relays, plane):
    first, second = opened(plane), opened(plane)
    assert [each.releases for each in relays.bandwidth.opened] == [0, 0]
    plane.close(first)
    assert [each.releases for each in relays.bandwidth.opened] == [1, 0]
    plane.close(second)
    assert [each.releases for each in relays.bandwidth.opened] == [1, 1]


# -- client to peer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_channel_data_goes_to_its_peer_from_the_relay(relays, plane, size):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    data = bytes(number % 251 for number in range(size))
    link.channels[CHANNEL].forward(memoryview(data), relays.clock.now)
    assert await peer.receive() == (data, relay)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dont_fragment", [False, True])
async def test_send_indications_go_to_their_peer_from_the_relay(relays, plane, size, dont_fragment):
    path, _ = relays.client()
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, V4)
    data = bytes(number % 251 for number in range(size))
    plane.send(relay, peer.address, data, dont_fragment)
    assert await peer.receive() == (data, relay)


async def test_ipv6(new_relays, has_ipv6):
    relays = new_relays(hosts=(RelayHost(V6, V6),))
    path, link = relays.client()
    relay, peer = opened(relays.plane, IPV6), relays.peer(V6)
    bind(relays.plane, path, relay, CHANNEL, peer.address)
    link.channels[CHANNEL].forward(memoryview(b"out"), relays.clock.now)
    assert await peer.receive() == (b"out", relay)
    relays.plane.send(relay, peer.address, b"whole", True)
    assert await peer.receive() == (b"whole", relay)
    peer.send(b"back", relay)
    await wait_for(link, 1)
    assert link.frames == [channel_data(CHANNEL, b"back", padded=False)]


async def test_a_send_to_a_relay_that_is_gone_or_never_granted_is_nothing(relays, plane):
    peer = relays.peer()
    relay = opened(plane)
    plane.send(relay, peer.address, b"not granted to anybody", False)
    plane.close(relay)
    plane.send(relay, peer.address, b"gone", False)
    assert await peer.hears_nothing()


@pytest.mark.parametrize("transport", Transport)
async def test_a_channel_that_expired_moves_nothing(relays, plane, transport):
    path, link = relays.client(transport=transport)
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address, expires_at=relays.clock.now + 300)
    forwarder = link.channels[CHANNEL]
    forwarder.forward(memoryview(b"in time"), relays.clock.now + 299.9)
    assert (await peer.receive())[0] == b"in time"
    forwarder.forward(memoryview(b"late"), relays.clock.now + 300)
    assert await peer.hears_nothing()


async def test_a_revoked_channel_is_not_found(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    plane.revoke(ChannelFlow(path, relay, CHANNEL, peer.address))
    assert CHANNEL not in link.channels
    plane.revoke(ChannelFlow(path, relay, CHANNEL, peer.address))


async def test_a_closed_relay_takes_its_channels_along(relays, plane):
    path, link = relays.client()
    first, second, peer = opened(plane), opened(plane), relays.peer()
    bind(plane, path, first, CHANNEL, peer.address)
    bind(plane, path, second, CHANNEL + 1, peer.address)
    plane.close(first)
    assert link.channels.keys() == {CHANNEL + 1}
    assert relays.links.released == []
    plane.close(second)
    assert not link.channels
    assert relays.links.released == [path]


# -- peer to client -----------------------------------------------------------------------------------------

TRANSPORTS = [Transport.UDP, Transport.TCP]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_data_from_a_permitted_host_comes_as_a_data_indication(relays, plane, transport, size):
    path, link = relays.client(transport=transport)
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, V4)
    data = bytes(number % 251 for number in range(size))
    peer.send(data, relay)
    await wait_for(link, 1)
    assert link.frames == [data_indication(link.frames[0], peer.address, data)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_data_from_the_peer_of_a_channel_comes_as_channel_data(relays, plane, transport, size):
    """Section 12.5: padded to four bytes on a stream, and not counted in the length."""
    path, link = relays.client(transport=transport)
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    data = bytes(number % 251 for number in range(size))
    peer.send(data, relay)
    await wait_for(link, 1)
    assert link.frames == [channel_data(CHANNEL, data, padded=transport is Transport.TCP)]


async def test_data_from_an_ipv6_peer(new_relays, has_ipv6):
    relays = new_relays(hosts=(RelayHost(V6, V6),))
    path, link = relays.client()
    relay, peer = opened(relays.plane, IPV6), relays.peer(V6)
    permit(relays.plane, path, relay, V6)
    peer.send(b"six", relay)
    await wait_for(link, 1)
    assert link.frames == [data_indication(link.frames[0], peer.address, b"six")]


async def test_each_indication_has_its_own_transaction(relays, plane):
    """RFC 8489 section 6: uniformly and randomly chosen."""
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, V4)
    for _ in range(20):
        peer.send(b"x", relay)
    await wait_for(link, 20)
    assert len({frame[8:20] for frame in link.frames}) == 20


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5])
async def test_padding_holds_nothing_of_earlier_packets(relays, plane, transport, size):
    """All sockets share one buffer; what another client was sent must not be seen."""
    theirs, mine = relays.client(0), relays.client(1, transport)
    peer = relays.peer()
    relay = {name: opened(plane) for name in ("theirs", "with a channel", "without")}
    permit(plane, theirs[0], relay["theirs"], V4)
    bind(plane, mine[0], relay["with a channel"], CHANNEL, peer.address)
    permit(plane, mine[0], relay["without"], V4)
    for number, name in enumerate(("with a channel", "without")):
        peer.send(b"\xff" * 60_000, relay["theirs"])
        await wait_for(theirs[1], number + 1)
        peer.send(b"x" * size, relay[name])
        await wait_for(mine[1], number + 1)
    channel, indication = mine[1].frames
    assert channel == channel_data(CHANNEL, b"x" * size, padded=transport is Transport.TCP)
    assert indication == data_indication(indication, peer.address, b"x" * size)


async def test_the_port_of_a_permitted_host_does_not_matter(relays, plane):
    path, link = relays.client()
    relay = opened(plane)
    permit(plane, path, relay, V4)
    for number in range(3):
        relays.peer().send(b"x", relay)
        await wait_for(link, number + 1)


async def test_data_from_a_host_without_permission_is_dropped(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, "203.0.113.5")
    peer.send(b"x", relay)
    await dropped(plane, "no_permission")
    assert link.frames == []


async def test_data_for_a_relay_that_was_never_granted_is_dropped(relays, plane):
    relays.peer().send(b"x", opened(plane))
    await dropped(plane, "no_permission")


async def test_a_permission_ends_when_it_says(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, V4, expires_at=1300)
    relays.clock.now = 1299.9
    peer.send(b"in time", relay)
    await wait_for(link, 1)
    relays.clock.now = 1300
    peer.send(b"late", relay)
    await dropped(plane, "no_permission")
    # A later grant extends it.
    permit(plane, path, relay, V4, expires_at=1600)
    peer.send(b"again", relay)
    await wait_for(link, 2)
    assert link.frames[1].endswith(b"again\0\0\0")


async def test_a_revoked_permission_ends_at_once(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, V4)
    plane.revoke(PermissionFlow(path, relay, V4))
    peer.send(b"x", relay)
    await dropped(plane, "no_permission")
    plane.revoke(PermissionFlow(path, relay, V4))
    assert link.frames == []


async def test_when_the_channel_ends_the_permission_still_holds(relays, plane):
    """Sections 11.3 and 12.5: ChannelData while a channel is bound, Data indications else."""
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address, expires_at=1600)
    permit(plane, path, relay, V4)
    relays.clock.now = 1599
    peer.send(b"x", relay)
    await wait_for(link, 1)
    relays.clock.now = 1600
    peer.send(b"y", relay)
    await wait_for(link, 2)
    assert link.frames[0] == channel_data(CHANNEL, b"x", padded=False)
    assert link.frames[1] == data_indication(link.frames[1], peer.address, b"y")


async def test_a_revoked_channel_leaves_the_permission(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    plane.revoke(ChannelFlow(path, relay, CHANNEL, peer.address))
    peer.send(b"x", relay)
    await wait_for(link, 1)
    assert link.frames == [data_indication(link.frames[0], peer.address, b"x")]


async def test_a_channel_is_for_one_transport_address(relays, plane):
    path, link = relays.client()
    relay, peer, neighbour = opened(plane), relays.peer(), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    neighbour.send(b"x", relay)
    await wait_for(link, 1)
    assert link.frames == [data_indication(link.frames[0], neighbour.address, b"x")]


async def test_who_still_holds_a_channel_of_a_closed_relay_harms_nobody(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    forwarder = link.channels[CHANNEL]
    plane.close(relay)
    forwarder.forward(memoryview(b"x"), relays.clock.now)
    assert await peer.hears_nothing()
    assert plane.traffic()[Transport.UDP] == Traffic()


async def test_a_channel_number_that_changed_hands(relays, plane):
    path, link = relays.client()
    relay, before, after = opened(plane), relays.peer(), relays.peer()
    bind(plane, path, relay, CHANNEL, before.address)
    plane.revoke(ChannelFlow(path, relay, CHANNEL, before.address))
    bind(plane, path, relay, CHANNEL, after.address)
    link.channels[CHANNEL].forward(memoryview(b"x"), relays.clock.now)
    assert (await after.receive())[0] == b"x"
    before.send(b"b", relay)
    await wait_for(link, 1)
    after.send(b"a", relay)
    await wait_for(link, 2)
    assert link.frames[0] == data_indication(link.frames[0], before.address, b"b")
    assert link.frames[1] == channel_data(CHANNEL, b"a", padded=False)


async def test_clients_do_not_hear_each_other(relays, plane):
    (path, link), (other_path, other_link) = relays.client(0), relays.client(1)
    relay, other_relay, peer = opened(plane), opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    bind(plane, other_path, other_relay, CHANNEL, peer.address)
    peer.send(b"mine", relay)
    await wait_for(link, 1)
    peer.send(b"theirs", other_relay)
    await wait_for(other_link, 1)
    assert link.frames == [channel_data(CHANNEL, b"mine", padded=False)]
    assert other_link.frames == [channel_data(CHANNEL, b"theirs", padded=False)]
    plane.close(relay)
    other_link.channels[CHANNEL].forward(memoryview(b"still here"), relays.clock.now)
    assert await peer.receive() == (b"still here", other_relay)


async def test_more_packets_than_a_batch_all_arrive(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    for number in range(100):
        peer.send(bytes([number]), relay)
    await wait_for(link, 100)
    assert [frame[4] for frame in link.frames] == list(range(100))


async def test_a_grant_for_a_client_that_is_gone_is_nothing(relays, plane):
    path, _ = relays.client()
    relay, peer = opened(plane), relays.peer()
    relays.links.links.clear()
    bind(plane, path, relay, CHANNEL, peer.address)
    peer.send(b"x", relay)
    await dropped(plane, "no_permission")
    plane.close(relay)
    assert relays.links.released == []


async def test_a_grant_for_a_relay_that_is_gone_is_nothing(relays, plane):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    plane.close(relay)
    bind(plane, path, relay, CHANNEL, peer.address)
    plane.revoke(ChannelFlow(path, relay, CHANNEL, peer.address))
    assert not link.channels


# -- congestion and bandwidth -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(BlockingIOError(), "client_congested"), (OSError("gone"), "client_unreachable")],
    ids=["congested", "unreachable"],
)
async def test_a_client_that_takes_no_more_loses_packets_and_they_are_counted(relays, plane, failure, reason):
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    link.failure = failure
    peer.send(b"lost", relay)
    peer.send(b"lost", relay)
    await dropped(plane, reason, 2)
    assert plane.traffic()[Transport.UDP] == Traffic()
    link.failure = None
    peer.send(b"heard", relay)
    await wait_for(link, 1)
    assert plane.traffic()[Transport.UDP] == Traffic(0, 0, 1, 5)


async def test_what_exceeds_the_bandwidth_of_an_allocation_is_dropped_and_counted(new_relays):
    relays = new_relays(burst=100)
    plane = relays.plane
    path, link = relays.client()
    relay, peer = opened(plane), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    forward = link.channels[CHANNEL].forward
    forward(memoryview(bytes(60)), relays.clock.now)
    forward(memoryview(bytes(41)), relays.clock.now)
    assert plane.drops() == {"bandwidth": 1}
    peer.send(bytes(30), relay)
    await wait_for(link, 1)
    peer.send(bytes(11), relay)
    await dropped(plane, "bandwidth", 2)
    plane.send(relay, peer.address, bytes(11), False)
    assert plane.drops() == {"bandwidth": 3}
    plane.send(relay, peer.address, bytes(10), False)
    assert plane.traffic()[Transport.UDP] == Traffic(2, 70, 1, 30)


async def test_the_allocations_of_an_account_share_its_bandwidth(relays, plane):
    relays.bandwidth.accounts["alice"] = TokenBucket(0, 100, 0)
    (path, _), (other_path, _) = relays.client(0), relays.client(1)
    relay, other, peer = opened(plane), opened(plane), relays.peer()
    permit(plane, path, relay, V4)
    permit(plane, other_path, other, V4)
    plane.send(relay, peer.address, bytes(60), False)
    plane.send(other, peer.address, bytes(60), False)
    assert plane.drops() == {"bandwidth": 1}
    plane.send(other, peer.address, bytes(40), False)
    assert plane.drops() == {"bandwidth": 1}
    bob = opened(plane, account="bob")
    permit(plane, path, bob, V4)
    plane.send(bob, peer.address, bytes(60_000), False)
    assert plane.drops() == {"bandwidth": 1}


async def test_a_packet_the_account_cannot_pay_costs_the_allocation_nothing(new_relays):
    """What is dropped is not sent, so neither bucket pays for it."""
    relays = new_relays(burst=100)
    relays.bandwidth.accounts["alice"] = TokenBucket(0, 50, 0)
    path, _ = relays.client()
    relay, peer = opened(relays.plane), relays.peer()
    permit(relays.plane, path, relay, V4)
    relays.plane.send(relay, peer.address, bytes(60), False)
    assert relays.plane.drops() == {"bandwidth": 1}
    assert relays.bandwidth.opened[0].allocation.level == 100


# -- figures ------------------------------------------------------------------------------------------------


async def test_traffic_is_live_and_by_the_transport_of_the_client(relays, plane):
    peer = relays.peer()
    assert plane.traffic() == {transport: Traffic() for transport in Transport}
    for number, transport in enumerate(Transport):
        path, link = relays.client(number, transport)
        relay = opened(plane)
        bind(plane, path, relay, CHANNEL, peer.address)
        for _ in range(number + 1):
            link.channels[CHANNEL].forward(memoryview(bytes(10)), relays.clock.now)
        peer.send(bytes(5), relay)
        await wait_for(link, 1)
    # Application data alone: no headers, no padding.
    expected = {transport: Traffic(n + 1, 10 * (n + 1), 1, 5) for n, transport in enumerate(Transport)}
    assert plane.traffic() == expected
    assert [plane.traffic_of(relay) for relay in plane.relays] == list(expected.values())
    for relay in list(plane.relays):
        plane.close(relay)
        assert plane.traffic_of(relay) == Traffic()
    assert plane.traffic() == expected


async def test_traffic_of_ended_and_live_relays_adds_up(relays, plane):
    path, _ = relays.client()
    peer = relays.peer()
    for _ in range(3):
        relay = opened(plane)
        permit(plane, path, relay, V4)
        plane.send(relay, peer.address, b"four", False)
        plane.close(relay)
    relay = opened(plane)
    permit(plane, path, relay, V4)
    plane.send(relay, peer.address, b"four", False)
    before = plane.traffic()
    assert before[Transport.UDP] == Traffic(4, 16, 0, 0)
    plane.send(relay, peer.address, b"four", False)
    assert before[Transport.UDP] == Traffic(4, 16, 0, 0), "a figure that was read does not change"
    assert plane.traffic()[Transport.UDP] == Traffic(5, 20, 0, 0)


# -- hairpin ------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(relays, plane):
    """Two clients with a relayed address each, and each a channel to the other's."""
    (path, link), (other_path, other_link) = relays.client(0), relays.client(1, Transport.TCP)
    relay, other = opened(plane), opened(plane)
    return (path, link, relay), (other_path, other_link, other)


@pytest.mark.parametrize("size", SIZES)
async def test_data_between_two_relays_stays_in_the_process(relays, plane, pair, size):
    (path, link, relay), (other_path, other_link, other) = pair
    bind(plane, path, relay, CHANNEL, other)
    bind(plane, other_path, other, CHANNEL + 1, relay)
    data = bytes(number % 251 for number in range(size))
    # No turn of the event loop in between: nothing went through a socket.
    link.channels[CHANNEL].forward(memoryview(data), relays.clock.now)
    assert other_link.frames == [channel_data(CHANNEL + 1, data, padded=True)]
    other_link.channels[CHANNEL + 1].forward(memoryview(data), relays.clock.now)
    assert link.frames == [channel_data(CHANNEL, data, padded=False)]
    assert plane.traffic()[Transport.UDP] == plane.traffic()[Transport.TCP] == Traffic(1, size, 1, size)


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_channel_the_other_side_gets_a_data_indication(relays, plane, pair, size):
    (path, link, relay), (other_path, other_link, other) = pair
    bind(plane, path, relay, CHANNEL, other)
    permit(plane, other_path, other, V4)
    data = bytes(number % 251 for number in range(size))
    link.channels[CHANNEL].forward(memoryview(data), relays.clock.now)
    plane.send(relay, PeerAddress(other), data, False)
    assert len(other_link.frames) == 2
    for frame in other_link.frames:
        assert frame == data_indication(frame, relay, data)


async def test_the_other_side_must_have_permitted_it(relays, plane, pair):
    (path, link, relay), (other_path, other_link, other) = pair
    bind(plane, path, relay, CHANNEL, other)
    permit(plane, other_path, other, "203.0.113.5")
    link.channels[CHANNEL].forward(memoryview(b"x"), relays.clock.now)
    assert plane.drops() == {"no_permission": 1}
    permit(plane, other_path, other, V4, expires_at=1300)
    link.channels[CHANNEL].forward(memoryview(b"x"), 1299)
    link.channels[CHANNEL].forward(memoryview(b"x"), 1300)
    assert len(other_link.frames) == 1
    assert plane.drops() == {"no_permission": 2}


async def test_the_source_is_the_advertised_address(new_relays):
    relays = new_relays(hosts=(RelayHost(V4, "203.0.113.1"),))
    plane = relays.plane
    (path, _), (other_path, other_link) = relays.client(0), relays.client(1)
    relay, other = opened(plane), opened(plane)
    permit(plane, path, relay, "203.0.113.1")
    permit(plane, other_path, other, "203.0.113.1")
    plane.send(relay, PeerAddress(other), b"x", False)
    assert other_link.frames == [data_indication(other_link.frames[0], relay, b"x")]


async def test_a_relay_that_closed_is_not_reached_nor_who_has_its_port_now(relays, plane, pair):
    (path, link, relay), (_, _, other) = pair
    bind(plane, path, relay, CHANNEL, other)
    forwarder = link.channels[CHANNEL]
    plane.close(other)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(other)
        stranger.setblocking(False)
        forwarder.forward(memoryview(b"x"), relays.clock.now)
        assert plane.drops() == {"no_such_relay": 1}
        with pytest.raises(BlockingIOError):
            stranger.recvfrom(10)
    assert plane.traffic()[Transport.UDP] == Traffic()


async def test_a_client_may_write_to_itself(relays, plane):
    path, link = relays.client()
    relay = opened(plane)
    bind(plane, path, relay, CHANNEL, PeerAddress(relay))
    link.channels[CHANNEL].forward(memoryview(b"echo"), relays.clock.now)
    assert link.frames == [channel_data(CHANNEL, b"echo", padded=False)]


async def test_both_sides_pay_for_what_stays_in_the_process(new_relays):
    relays = new_relays(burst=100)
    plane = relays.plane
    (path, link), (other_path, other_link) = relays.client(0), relays.client(1)
    relay, other = opened(plane), opened(plane)
    bind(plane, path, relay, CHANNEL, other)
    permit(plane, other_path, other, V4)
    for _ in range(3):
        link.channels[CHANNEL].forward(memoryview(bytes(40)), relays.clock.now)
    assert plane.drops() == {"bandwidth": 1}
    assert len(other_link.frames) == 2
    assert [each.allocation.level for each in relays.bandwidth.opened] == [20, 20]


# -- the largest --------------------------------------------------------------------------------------------


async def test_the_largest_channel_data_between_two_streams(relays, plane):
    """Length is 16 bits (section 12.4), and on a stream all of them can be used."""
    (path, link), (other_path, other_link) = (relays.client(n, Transport.TCP) for n in range(2))
    relay, other = opened(plane), opened(plane)
    bind(plane, path, relay, CHANNEL, other)
    bind(plane, other_path, other, CHANNEL, relay)
    data = bytes(number % 251 for number in range(65_535))
    link.channels[CHANNEL].forward(memoryview(data), relays.clock.now)
    assert other_link.frames == [channel_data(CHANNEL, data, padded=True)]


@pytest.mark.parametrize("size", [65_517, 65_535])
async def test_data_too_large_for_an_indication_is_dropped(relays, plane, size):
    """65,535 bytes of attributes fit a message: 12 of address, 4 of header, 65,516 of data."""
    (path, link), (other_path, other_link) = (relays.client(n, Transport.TCP) for n in range(2))
    relay, other = opened(plane), opened(plane)
    bind(plane, path, relay, CHANNEL, other)
    permit(plane, other_path, other, V4)
    link.channels[CHANNEL].forward(memoryview(bytes(size)), relays.clock.now)
    assert other_link.frames == []
    assert plane.drops() == {"too_large": 1}


async def test_the_largest_datagram_of_an_ipv4_peer_is_relayed(relays, plane):
    """65,507 bytes: what 16 bits of length leave behind the headers of IP and UDP."""
    path, link = relays.client(transport=Transport.TCP)
    relay, peer = opened(plane), relays.peer()
    permit(plane, path, relay, V4)
    peer.send(bytes(65_507), relay)
    await until(lambda: bool(link.frames or plane.drops()))
    assert link.frames == [data_indication(link.frames[0], peer.address, bytes(65_507))]


async def test_the_largest_datagram_of_an_ipv6_peer_hurts_nobody(new_relays, has_ipv6):
    """65,527 bytes come in fragments; with 24 bytes of address they do not fit an indication."""
    relays = new_relays(hosts=(RelayHost(V6, V6),))
    path, link = relays.client()
    relay, peer = opened(relays.plane, IPV6), relays.peer(V6)
    permit(relays.plane, path, relay, V6)
    peer.send(bytes(65_527), relay)
    peer.send(b"x", relay)
    await wait_for(link, 1)
    assert link.frames == [data_indication(link.frames[0], peer.address, b"x")]
    assert sum(relays.plane.drops().values()) == 1


# -- errors from the network --------------------------------------------------------------------------------


async def test_a_peer_that_is_not_there_is_reported(relays, plane):
    """Section 11.5: an ICMP error for a permitted peer becomes a Data indication with an ICMP attribute."""
    path, link = relays.client()
    relay, peer, gone = opened(plane), relays.peer(), relays.peer()
    bind(plane, path, relay, CHANNEL, gone.address)
    gone_address = gone.address
    gone.sock.close()
    plane.send(relay, gone_address, b"anybody there?", False)
    await wait_for(link, 1)
    transaction = link.frames[0][8:20]
    # Section 18.13: type 3 (destination unreachable) in seven bits, code 3 (port) in nine, no error data.
    icmp = struct.pack("!HHHHI", 0x8004, 8, 0, 3 << 9 | 3, 0)
    body = struct.pack("!HH", 0x0012, 8) + xor_address(gone_address, transaction) + icmp
    assert link.frames == [struct.pack("!HHI", 0x0017, len(body), COOKIE) + transaction + body]
    # Nobody else suffers: data goes on both ways.
    plane.send(relay, peer.address, b"and you?", False)
    assert await peer.receive() == (b"and you?", relay)
    peer.send(b"yes", relay)
    await wait_for(link, 2)
    assert link.frames[1] == data_indication(link.frames[1], peer.address, b"yes")


async def test_a_relay_hears_on_however_many_errors_there_are(relays, plane):
    path, link = relays.client()
    relay, peer, gone = opened(plane), relays.peer(), relays.peer()
    bind(plane, path, relay, CHANNEL, peer.address)
    address = gone.address
    gone.sock.close()
    for number in range(30):
        plane.send(relay, address, b"anybody there?", False)
        if number % 3:
            await until(lambda: link.frames and link.frames[-1][:2] == b"\x00\x17")
        peer.send(bytes([number]), relay)
        await until(lambda number=number: channel_data(CHANNEL, bytes([number]), False) in link.frames)


async def test_what_cannot_be_sent_is_dropped_and_counted(relays, plane):
    path, link = relays.client(transport=Transport.TCP)
    relay, peer, nobody = opened(plane), relays.peer(), PeerAddress(TransportAddress("255.255.255.255", 9))
    bind(plane, path, relay, CHANNEL, peer.address)
    permit(plane, path, relay, nobody.host)
    # A stream may bring more than a datagram holds, and broadcasts are not for relays.
    link.channels[CHANNEL].forward(memoryview(bytes(65_535)), relays.clock.now)
    plane.send(relay, nobody, b"x", False)
    assert plane.drops() == {"too_large": 1, "peer_unreachable": 1}
    assert plane.traffic()[Transport.TCP] == Traffic()
    link.channels[CHANNEL].forward(memoryview(b"fits"), relays.clock.now)
    assert await peer.receive() == (b"fits", relay)


async def test_an_error_for_a_host_without_permission_is_not_reported(relays, plane):
    path, link = relays.client()
    relay, peer, gone = opened(plane), relays.peer(), relays.peer()
    permit(plane, path, relay, V4)
    address = gone.address
    gone.sock.close()
    plane.send(relay, address, b"anybody there?", False)
    plane.revoke(PermissionFlow(path, relay, V4))
    plane.send(relay, peer.address, b"x", False)
    assert await peer.receive() == (b"x", relay)
    assert link.frames == []


@pytest.mark.parametrize("dont_fragment", [False, True])
async def test_the_df_bit_is_set_when_asked_for_and_at_no_other_time(relays, plane, dont_fragment):
    """Section 14: in all other cases DF is that of the incoming packet, taken to be 0."""
    try:
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    except (PermissionError, AttributeError):
        pytest.skip("seeing IP headers takes CAP_NET_RAW on Linux")
    with sniffer:
        sniffer.bind(("lo", 0))
        sniffer.setblocking(False)
        path, link = relays.client()
        relay, peer = opened(plane), relays.peer()
        bind(plane, path, relay, CHANNEL, peer.address)
        plane.send(relay, peer.address, b"first", dont_fragment)
        link.channels[CHANNEL].forward(memoryview(b"second"), relays.clock.now)
        await peer.receive()
        await peer.receive()
        flags = {}
        while len(flags) < 2:
            packet = sniffer.recv(2048)
            header = 4 * (packet[0] & 15)
            if packet[9] == 17 and struct.unpack_from("!HH", packet, header) == (
                relay.port,
                peer.address.port,
            ):
                flags[packet[header + 8 :]] = bool(packet[6] & 0x40)
        assert flags == {b"first": dont_fragment, b"second": False}
