"""The rules of the kernel plane, packet by packet (BPF_PROG_TEST_RUN)."""

import ctypes
import itertools
import struct
import time
from dataclasses import replace

import pytest
from planes.frames import NEXT_MAC, OUR_MAC, Frame, channel_data
from planes.rig import (
    CHANNEL,
    CLIENTS,
    DROP,
    ELSEWHERE,
    HERE,
    PASS,
    PEERS,
    RELAY,
    RELAYS,
    SERVERS,
    Rig,
    fresh_hop,
    rig,
)
from stunwire import TransportAddress
from turnrelay.core.addresses import ClientAddress, RelayedAddress, Transport
from turnrelay.policy.bandwidth import BandwidthLimits
from turnrelay.relay.kernel.kernel_object import GENERIC, INGRESS, NATIVE
from turnrelay.relay.kernel.layouts import Watch, link_key
from turnrelay.relay.plane import Traffic

FAMILIES = list(itertools.product((4, 6), (4, 6)))
SIZES = [0, 1, 2, 3, 4, 5, 7, 31, 63, 172, 255, 256, 511, 512, 513, 1000, 1200]


def pattern(size: int) -> bytes:
    return bytes((index * 37 + 11) % 256 for index in range(size))


def from_client(family: int = 4, data: bytes = b"hello", channel: int = CHANNEL) -> Frame:
    return Frame(CLIENTS[family], SERVERS[family], channel_data(channel, data))


def from_peer(family: int = 4, data: bytes = b"hello") -> Frame:
    return Frame(PEERS[family], RELAYS[family], data)


def bind(rig: Rig, client: int = 4, peer: int = 4, **how):
    relay = rig.relay(RELAYS[peer])
    return rig.channel(relay, CLIENTS[client], SERVERS[client], PEERS[peer], **how)


# -- what is relayed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_client_to_peer(any_rig, client, peer, size):
    bind(any_rig, client, peer)
    out = any_rig.relayed(replace(from_client(client, pattern(size)), tos=0xB9))
    assert out == Frame(RELAYS[peer], PEERS[peer], pattern(size), 63, 0xB9, to_mac=NEXT_MAC, from_mac=OUR_MAC)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_peer_to_client(any_rig, client, peer, size):
    bind(any_rig, client, peer)
    out = any_rig.relayed(replace(from_peer(peer, pattern(size)), tos=0x02))
    data = channel_data(CHANNEL, pattern(size))
    assert out == Frame(SERVERS[client], CLIENTS[client], data, 63, 0x02, to_mac=NEXT_MAC, from_mac=OUR_MAC)


@pytest.mark.parametrize(("first", "second"), FAMILIES)
def test_hairpin_goes_from_client_to_client_in_one_pass(any_rig, first, second):
    mine, theirs = any_rig.relay(RELAYS[4]), any_rig.relay(TransportAddress("192.0.2.1", 50002))
    other_client = {
        4: TransportAddress("198.51.100.8", 41000),
        6: TransportAddress("2001:db8:c::8", 41000),
    }[second]
    there = any_rig.channel(theirs, other_client, SERVERS[second], mine, channel=0x4FFF)
    here = any_rig.channel(mine, CLIENTS[first], SERVERS[first], theirs)
    out = any_rig.relayed(from_client(first, pattern(300)))
    assert (out.source, out.destination) == (SERVERS[second], other_client)
    assert out.data == channel_data(0x4FFF, pattern(300))
    assert any_rig.plane.carried(here) == Traffic(packets_to_peer=1, bytes_to_peer=300)
    assert any_rig.plane.carried(there) == Traffic(packets_from_peer=1, bytes_from_peer=300)


def test_hairpin_to_a_relay_without_a_channel_back_is_for_userspace(any_rig):
    mine, theirs = any_rig.relay(RELAYS[4]), any_rig.relay(TransportAddress("192.0.2.1", 50002))
    any_rig.channel(mine, CLIENTS[4], SERVERS[4], theirs)
    assert any_rig.run(from_client())[0] == PASS


def test_behind_a_nat_packets_carry_the_local_address(any_rig):
    advertised, local = TransportAddress("203.0.113.77", 50000), TransportAddress("10.0.0.5", 50000)
    relay = any_rig.relay(advertised, local)
    any_rig.channel(relay, CLIENTS[4], SERVERS[4], PEERS[4])
    assert any_rig.relayed(from_client()).source == local
    assert any_rig.relayed(Frame(PEERS[4], local, b"x")).destination == CLIENTS[4]
    assert any_rig.run(Frame(PEERS[4], advertised, b"x"))[0] == PASS


def test_short_frames_have_a_trailer(any_rig):
    bind(any_rig)
    out = any_rig.relayed(replace(from_client(data=b"abc"), trailer=b"\xaa" * 11))
    assert out.data == b"abc"


def test_ipv4_packets_may_be_fragmented_by_routers_and_have_different_identifications(any_rig):
    bind(any_rig)
    identifications = {any_rig.run(from_client())[1][18:20] for _ in range(20)}
    assert len(identifications) > 10
    assert any_rig.relayed(replace(from_client(), fragment=0x4000)).fragment == 0


# -- what is passed on -------------------------------------------------------------------------------------

UNUSUAL = {
    "padded": Frame(CLIENTS[4], SERVERS[4], channel_data(CHANNEL, b"hello") + b"\0\0\0"),
    "cut short": Frame(CLIENTS[4], SERVERS[4], struct.pack("!HH", CHANNEL, 9) + b"hello"),
    "STUN": Frame(CLIENTS[4], SERVERS[4], bytes.fromhex("000100002112a442") + bytes(12)),
    "empty": Frame(CLIENTS[4], SERVERS[4], b""),
    "three bytes": Frame(CLIENTS[4], SERVERS[4], b"\x40\x01\x00"),
    "another channel": from_client(channel=CHANNEL + 1),
    "another client": replace(from_client(), source=TransportAddress("198.51.100.8", 40000)),
    "another client port": replace(from_client(), source=TransportAddress("198.51.100.7", 40001)),
    "another server": replace(from_client(), destination=TransportAddress("192.0.2.2", 3478)),
    "another server port": replace(from_client(), destination=TransportAddress("192.0.2.1", 3479)),
    "another peer": replace(from_peer(), source=TransportAddress("203.0.113.10", 9000)),
    "another peer port": replace(from_peer(), source=TransportAddress("203.0.113.9", 9001)),
    "another relay port": replace(from_peer(), destination=TransportAddress("192.0.2.1", 50001)),
    "TTL 1": replace(from_client(), ttl=1),
    "TTL 0": replace(from_peer(), ttl=0),
    "hop limit 1": replace(from_client(6), ttl=1),
    "IPv4 options": replace(from_client(), options=b"\x01" * 4),
    "IPv6 extension header": replace(from_client(6), options=bytes.fromhex("1100010400000000")),
    "first fragment": replace(from_client(), fragment=0x2000),
    "later fragment": replace(from_client(), fragment=0x00B9),
    "IPv6 fragment": replace(from_client(6), fragment=1),
    "wrong checksum": replace(from_client(), checksum="wrong"),
    "wrong checksum from a peer": replace(from_peer(), checksum="wrong"),
    "no checksum in IPv6": replace(from_client(6), checksum="none"),
    "UDP longer than the packet": replace(from_client(), missing=8),
    "not to our MAC": replace(from_client(), to_mac=bytes.fromhex("020000000001")),
    "broadcast": replace(from_client(), to_mac=b"\xff" * 6),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_unusual_is_passed_on_untouched(any_rig, kind):
    for family, port in ((4, 50000), (6, 50010)):
        relay = any_rig.relay(TransportAddress(RELAYS[family].host, port))
        any_rig.channel(relay, CLIENTS[family], SERVERS[family], PEERS[family])
    assert any_rig.run(UNUSUAL[kind])[0] == PASS
    assert any_rig.traffic() == Traffic()


def test_other_protocols_are_passed_on(any_rig):
    bind(any_rig)
    arp = b"\xff" * 6 + bytes(6) + bytes.fromhex("0806") + bytes(28)
    tcp = bytearray(from_client().encode())
    tcp[23] = 6
    cut = from_client().encode()[:30]
    for raw in (arp, bytes(tcp), cut + bytes(4), bytes(20)):
        assert any_rig.run(raw)[0] == PASS


def test_a_damaged_ip_header_is_passed_on(any_rig):
    bind(any_rig)
    raw = bytearray(from_client().encode())
    raw[24] ^= 1
    assert any_rig.run(bytes(raw))[0] == PASS


def test_an_expired_channel_relays_nothing(any_rig):
    flow = bind(any_rig, expires_in=0.5)
    assert any_rig.run(from_client())[0] == RELAY
    time.sleep(0.55)
    assert any_rig.run(from_client())[0] == PASS
    assert any_rig.run(from_peer())[0] == PASS
    any_rig.plane.grant(flow, time.monotonic() + 60)
    assert any_rig.run(from_client())[0] == RELAY
    assert any_rig.run(from_peer())[0] == RELAY


def test_a_revoked_channel_relays_nothing(any_rig):
    flow = bind(any_rig)
    any_rig.plane.revoke(flow)
    assert any_rig.run(from_client())[0] == PASS
    assert any_rig.run(from_peer())[0] == PASS


def test_a_closed_relay_takes_its_channels_along(any_rig):
    flow = bind(any_rig)
    any_rig.plane.close(flow.relay)
    assert any_rig.run(from_client())[0] == PASS
    assert any_rig.run(from_peer())[0] == PASS


# -- checksums ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_a_packet_without_a_checksum_gets_one(any_rig, client, peer):
    bind(any_rig, client, peer)
    if client == 4:
        any_rig.relayed(replace(from_client(4, pattern(171)), checksum="none"))
    if peer == 4:
        any_rig.relayed(replace(from_peer(4, pattern(171)), checksum="none"))


@pytest.mark.parametrize("program", [NATIVE, GENERIC, INGRESS])
@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_a_checksum_left_to_the_device(kernel, program, client, peer):
    """A frame gets the right one. An skb would be finished in the wrong place, so it is passed on."""
    with rig(kernel, program) as it:
        bind(it, client, peer)
        for frame in (from_client(client, pattern(333)), from_peer(peer, pattern(334))):
            unfinished = replace(frame, checksum="unfinished")
            if program == NATIVE:
                it.relayed(unfinished)
            else:
                assert it.run(unfinished)[0] == PASS


def test_a_checksum_that_comes_out_as_zero_is_written_as_all_ones(any_rig):
    bind(any_rig)
    raw = any_rig.run(from_client(data=b"\0\0"))[1]
    check = int.from_bytes(raw[40:42], "big")
    any_rig.relayed(from_client(data=check.to_bytes(2, "big")))
    assert any_rig.run(from_client(data=check.to_bytes(2, "big")))[1][40:42] == b"\xff\xff"


# -- size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_what_does_not_fit_the_link_is_for_userspace(any_rig, client, peer):
    bind(any_rig, client, peer)
    headers = {4: 28, 6: 48}
    to_peer, to_client = 1500 - headers[peer], 1500 - headers[client] - 4
    assert any_rig.run(from_client(client, pattern(to_peer)))[0] == RELAY
    assert any_rig.run(from_client(client, pattern(to_peer + 1)))[0] == PASS
    assert any_rig.run(from_peer(peer, pattern(to_client)))[0] == RELAY
    assert any_rig.run(from_peer(peer, pattern(to_client + 1)))[0] == PASS


def test_several_datagrams_in_one_skb_are_for_userspace(kernel):
    with rig(kernel, INGRESS) as it:
        bind(it)
        gso_size_offset, size = 176, 192  # in struct __sk_buff
        context = bytearray(size)
        struct.pack_into("=I", context, gso_size_offset, 100)
        assert it.run(from_peer(data=pattern(400)), bytes(context))[0] == PASS


# -- next hop ----------------------------------------------------------------------------------------------


def test_without_a_known_way_out_the_system_is_asked(any_rig):
    bind(any_rig, hop=fresh_hop(ifindex=0))
    assert any_rig.run(from_client())[0] == PASS


def test_a_way_out_that_was_not_confirmed_for_long_is_not_taken(any_rig):
    bind(any_rig, hop=fresh_hop(age=31))
    assert any_rig.run(from_client())[0] == PASS


def test_one_packet_of_many_refreshes_the_way_out(any_rig):
    bind(any_rig, hop=fresh_hop(age=11))
    verdicts = [any_rig.run(from_client())[0] for _ in range(10)]
    assert verdicts == [PASS] + [RELAY] * 9


@pytest.mark.parametrize("program", [NATIVE, GENERIC, INGRESS])
def test_frames_are_not_redirected_to_a_device_that_loses_them(kernel, program):
    with rig(kernel, program) as it:
        bind(it, hop=fresh_hop(ifindex=ELSEWHERE, flags=0))
        assert it.run(from_client())[0] == (PASS if program == NATIVE else RELAY)
        it.know_hop(bind(it), fresh_hop(ifindex=ELSEWHERE))
        assert it.run(from_client())[0] == RELAY


# -- VLAN --------------------------------------------------------------------------------------------------


@pytest.fixture
def trunk(kernel):
    """VLAN 100 of the device is one of ours; 200 is not."""
    with rig(kernel, NATIVE) as it:
        it.join_vlan(100)
        yield it


@pytest.mark.parametrize(("tag_in", "tag_out"), [(0, 100), (100, 0), (100, 100), (100, 300)])
@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_tags_are_taken_off_and_put_on(trunk, client, peer, tag_in, tag_out):
    bind(trunk, client, peer, hop=fresh_hop(vlan=tag_out))
    for frame in (from_client(client, pattern(99)), from_peer(peer, pattern(98))):
        assert trunk.relayed(replace(frame, vlan=tag_in)).vlan == tag_out


def test_a_vlan_that_is_not_ours_is_passed_on(trunk):
    bind(trunk)
    assert trunk.run(replace(from_client(), vlan=200))[0] == PASS
    twice = bytearray(replace(from_client(), vlan=100).encode())
    twice[16:18] = b"\x81\x00"
    assert trunk.run(bytes(twice))[0] == PASS


def test_what_comes_from_elsewhere_for_an_address_of_another_network_is_for_the_system(any_rig):
    """The address is not where the packet arrives; neither does the system send there to who sent it."""
    flow = bind(any_rig)
    any_rig.kernel.links.delete(link_key(HERE, 0, SERVERS[4].host))
    assert any_rig.run(from_client())[0] == RELAY
    any_rig.know_hop(flow, fresh_hop(ifindex=ELSEWHERE))
    assert any_rig.run(from_client())[0] == PASS


def test_an_address_on_one_vlan_is_not_reached_from_another(trunk):
    bind(trunk, hop=fresh_hop(vlan=300))
    trunk.kernel.links.delete(link_key(HERE, 0, SERVERS[4].host))
    assert trunk.relayed(replace(from_client(), vlan=100)).destination == PEERS[4]
    assert trunk.run(from_client())[0] == PASS


@pytest.mark.parametrize("program", [NATIVE, GENERIC])
def test_nothing_is_relayed_by_xdp_while_a_device_hides_tags(kernel, program):
    with rig(kernel, program) as it:
        bind(it)
        kernel.watched.set(ctypes.c_uint32(0), Watch(ELSEWHERE))
        try:
            assert it.run(from_client())[0] == PASS
        finally:
            kernel.watched.set(ctypes.c_uint32(0), Watch())
        assert it.run(from_client())[0] == RELAY


def test_an_skb_goes_through_the_vlan_device_which_puts_the_tag_on(kernel):
    """What XDP sends below with a tag: the way that was learned serves both."""
    with rig(kernel, INGRESS) as it:
        bind(it, hop=fresh_hop(vlan=100))
        assert it.relayed(from_client()).vlan == 0


# -- bandwidth and counters --------------------------------------------------------------------------------


def test_counters_count_application_bytes(any_rig):
    flow = bind(any_rig)
    for size in (10, 20, 30):
        any_rig.run(from_client(data=pattern(size)))
    any_rig.run(from_peer(data=pattern(7)))
    assert any_rig.plane.carried(flow) == any_rig.traffic() == Traffic(3, 60, 1, 7)


def test_counts_stay_when_the_channel_goes(any_rig):
    flow = bind(any_rig)
    any_rig.run(from_client(data=pattern(50)))
    any_rig.plane.close(flow.relay)
    assert any_rig.traffic() == Traffic(1, 50, 0, 0)
    assert any_rig.plane.carried(bind(any_rig)) == Traffic()


def test_the_traffic_of_a_relay_is_that_of_its_channels_live_and_gone(any_rig):
    flow = bind(any_rig)
    any_rig.run(from_client(data=pattern(50)))
    assert any_rig.plane.traffic_of(flow.relay) == Traffic(1, 50, 0, 0)
    any_rig.plane.revoke(flow)
    assert any_rig.plane.traffic_of(flow.relay) == Traffic(1, 50, 0, 0)
    any_rig.plane.close(flow.relay)
    assert any_rig.plane.traffic_of(flow.relay) == Traffic()


def test_an_allocation_spends_its_bandwidth_in_both_directions(any_rig):
    relay = any_rig.relay(RELAYS[4], limits=BandwidthLimits(100_000, 0))
    any_rig.channel(relay, CLIENTS[4], SERVERS[4], PEERS[4])
    frames, began = [from_client(data=pattern(1000)), from_peer(data=pattern(1000))] * 60, time.monotonic()
    verdicts = [any_rig.run(frame)[0] for frame in frames]
    earned = 100 * (time.monotonic() - began)
    assert verdicts[:100] == [RELAY] * 100
    assert 100 <= verdicts.count(RELAY) <= 102 + earned
    assert any_rig.drops() == verdicts.count(DROP)
    time.sleep(0.1)
    assert [any_rig.run(frame)[0] for frame in frames[:8]] == [RELAY] * 8


def test_allocations_of_an_account_share_its_bandwidth(any_rig):
    limits = BandwidthLimits(0, 70_000)
    relays = [any_rig.relay(TransportAddress("192.0.2.1", port), limits=limits) for port in (50000, 50002)]
    clients = [CLIENTS[4], TransportAddress("198.51.100.8", 40000)]
    for relay, client in zip(relays, clients, strict=True):
        any_rig.channel(relay, client, SERVERS[4], PEERS[4])
    frame, began = from_client(data=pattern(1000)), time.monotonic()
    verdicts = [any_rig.run(replace(frame, source=client))[0] for client in clients for _ in range(50)]
    earned = 70 * (time.monotonic() - began)
    assert 70 <= verdicts.count(RELAY) <= 72 + earned


def test_what_userspace_spends_is_gone_for_the_kernel_and_the_other_way_round(any_rig):
    relay = any_rig.relay(RELAYS[4], limits=BandwidthLimits(100_000, 0))
    any_rig.channel(relay, CLIENTS[4], SERVERS[4], PEERS[4])
    bucket, _ = any_rig.buckets(relay)
    now = time.monotonic()
    assert bucket.take(60_000, now)
    verdicts = [any_rig.run(from_client(data=pattern(1000)))[0] for _ in range(50)]
    earned = 100 * (time.monotonic() - now)
    assert 40 <= verdicts.count(RELAY) <= 42 + earned
    if earned < 50:  # else the bucket never ran dry, on a machine so busy
        assert not bucket.take(10_000 + 1000 * earned, time.monotonic())
    assert bucket.take(1_000, time.monotonic() + 1)


def test_a_bucket_that_userspace_alone_spends_from_earns_as_time_passes(any_rig):
    relay = any_rig.relay(RELAYS[4], limits=BandwidthLimits(100_000, 0))
    bucket, _ = any_rig.buckets(relay)
    now = time.monotonic()
    taken = [sum(bucket.take(1_000, now + second) for _ in range(150)) for second in range(10)]
    assert all(99 <= count <= 102 for count in taken), taken


def test_what_is_given_back_can_be_spent_again(any_rig):
    relay = any_rig.relay(RELAYS[4], limits=BandwidthLimits(100_000, 0))
    bucket, _ = any_rig.buckets(relay)
    now = time.monotonic()
    for _ in range(1_000):
        assert bucket.take(60_000, now)
        bucket.give_back(60_000)
    assert bucket.take(90_000, now)
    assert not bucket.take(20_000, now)


def test_an_allocation_does_not_pay_for_what_its_account_refuses(any_rig):
    relay = any_rig.relay(RELAYS[4], limits=BandwidthLimits(100, 1))  # and bursts of 65,536 each
    any_rig.channel(relay, CLIENTS[4], SERVERS[4], PEERS[4])
    allocation, account = any_rig.buckets(relay)
    assert account.take(40_000, time.monotonic())
    verdicts = [any_rig.run(from_client(data=pattern(1000)))[0] for _ in range(100)]
    assert verdicts.count(RELAY) == 25
    assert 40_000 <= allocation.level_at(time.monotonic()) < 50_000


# -- the plane ---------------------------------------------------------------------------------------------


def test_clients_over_streams_stay_in_userspace(any_rig):
    relay = any_rig.relay(RELAYS[4])
    flow = bind(any_rig)
    tcp = flow._replace(path=flow.path._replace(transport=Transport.TCP), channel=0x4002)
    any_rig.plane.grant(tcp, time.monotonic() + 60)
    assert any_rig.plane.carried(tcp) is None
    assert any_rig.plane.carried(flow) is not None
    assert relay == RelayedAddress(RELAYS[4])


def test_link_local_addresses_stay_in_userspace(any_rig):
    relay = any_rig.relay(RELAYS[6])
    flow = any_rig.channel(relay, CLIENTS[6], SERVERS[6], PEERS[6])
    near = ClientAddress(TransportAddress("fe80::1%2", 40000))
    local = flow._replace(path=flow.path._replace(client=near), channel=0x4002)
    any_rig.plane.grant(local, time.monotonic() + 60)
    assert any_rig.plane.carried(local) is None


def test_a_full_plane_leaves_channels_to_userspace(kernel):
    with rig(kernel, NATIVE) as it:
        relay = it.relay(RELAYS[4])
        flows = [
            it.channel(
                relay,
                CLIENTS[4],
                SERVERS[4],
                TransportAddress("203.0.113.9", 10_000 + number),
                0x4000 + number,
            )
            for number in range(70)
        ]
        assert [it.plane.carried(flow) is not None for flow in flows] == [True] * 64 + [False] * 6
        it.plane.revoke(flows[0])
        it.plane.grant(flows[69], time.monotonic() + 60)
        assert it.plane.carried(flows[69]) is not None
