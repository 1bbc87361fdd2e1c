"""Channels between real sockets, through a listener and the userspace plane, moved by C and by Python."""

import asyncio
import socket
import struct
import sys

import pytest
import turnrelay.relay
from stunwire import TransportAddress
from turnrelay.core.addresses import ClientAddress, FiveTuple, Transport
from turnrelay.core.outputs import ChannelFlow, PermissionFlow
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.mover import MoverUnavailable, PacketMover
from turnrelay.relay.plane import Traffic
from unit.relay.listening import CHANNEL, FOREVER, Rig, frame
from unit.relay.loopback import V4, V6, FakeBandwidthPolicy, until

SIZES = [0, 1, 3, 4, 172, 1200, 9000, 65_000]


@pytest.fixture
async def new_rig(mover):
    made: list[Rig] = []

    def make(host: str = V4, **bandwidth) -> Rig:
        made.append(Rig(mover, host, FakeBandwidthPolicy(**bandwidth)))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
async def rig(new_rig) -> Rig:
    return new_rig()


@pytest.fixture(params=[V4, V6])
async def any_rig(request, new_rig, has_ipv6) -> Rig:
    return new_rig(request.param)


@pytest.mark.parametrize("size", SIZES)
async def test_data_passes_whole_both_ways(any_rig, size):
    client, peer, relay = any_rig.end(), any_rig.end(), any_rig.open()
    any_rig.bind(client, relay, peer)
    data = bytes(number % 251 for number in range(size))
    any_rig.send(client, data)
    assert await peer.receive() == (data, relay)
    peer.send(data, relay)
    assert await client.receive() == (frame(CHANNEL, data), any_rig.listener.address)
    assert any_rig.traffic() == Traffic(1, size, 1, size)


async def test_the_extension_moves_what_it_was_granted(rig, mover):
    """Not Python, which would do it too: that is what the other tests could not tell."""
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    rig.send(client, b"out")
    await peer.receive()
    peer.send(b"back", relay)
    await client.receive()
    moved = rig.plane.relays[relay].own_traffic
    assert moved == (Traffic() if mover == "c" else Traffic(1, 3, 1, 4))


@pytest.mark.parametrize("behind", [1, 3, 50])
async def test_what_is_behind_the_length_is_left_out(rig, behind):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    client.send(frame(CHANNEL, b"hello") + bytes(behind), rig.listener.address)
    assert await peer.receive() == (b"hello", relay)
    assert rig.listener.unbound == 0


async def test_what_belongs_to_no_channel_is_counted_and_dropped(rig):
    client, other, peer, relay = rig.end(), rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    rig.send(client, b"x", CHANNEL + 1)
    rig.send(other, b"x")
    client.send(struct.pack("!HH", CHANNEL, 9) + b"cut short", rig.listener.address)
    client.send(struct.pack("!HH", CHANNEL, 9) + b"cut shor", rig.listener.address)
    client.send(b"\x40\x01\x00", rig.listener.address)
    client.send(b"\xff\xff\xff\xff", rig.listener.address)
    client.send(b"", rig.listener.address)
    await until(lambda: rig.listener.unbound + rig.listener.garbage == 6)
    assert (rig.listener.unbound, rig.listener.garbage) == (4, 2)
    assert (await peer.receive())[0] == b"cut short"
    assert await peer.hears_nothing()


async def test_stun_goes_to_the_core_in_between(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    for number in range(30):
        rig.send(client, b"%d" % number)
        client.send(b"\x00\x01" + bytes([number]) * 18, rig.listener.address)
    for number in range(30):
        assert (await peer.receive())[0] == b"%d" % number
    await until(lambda: len(rig.driver.messages) == 30)
    path = rig.path(client)
    expected = [(b"\x00\x01" + bytes([number]) * 18, path) for number in range(30)]
    assert rig.driver.messages == expected


async def test_a_channel_ends_at_its_time_and_the_permission_goes_on(any_rig):
    client, peer, relay = any_rig.end(), any_rig.end(), any_rig.open()
    any_rig.bind(client, relay, peer, expires_at=any_rig.clock.now + 300)
    any_rig.clock.now += 299.9
    any_rig.send(client, b"in time")
    assert (await peer.receive())[0] == b"in time"
    any_rig.clock.now += 0.1
    any_rig.send(client, b"late")
    assert await peer.hears_nothing()
    peer.send(b"late", relay)
    assert (await client.receive())[0][:2] == b"\x00\x17"


async def test_a_later_grant_extends_the_channel(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer, expires_at=rig.clock.now + 10)
    rig.bind(client, relay, peer, expires_at=rig.clock.now + 20)
    rig.clock.now += 15
    rig.send(client, b"x")
    assert (await peer.receive())[0] == b"x"
    peer.send(b"y", relay)
    assert (await client.receive())[0] == frame(CHANNEL, b"y")


async def test_a_revoked_channel_moves_nothing(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    flow = rig.bind(client, relay, peer)
    other = rig.bind(client, relay, rig.end(), CHANNEL + 1)
    rig.plane.revoke(flow)
    rig.send(client, b"x")
    rig.send(client, b"y", CHANNEL + 1)
    await until(lambda: rig.listener.unbound == 1)
    peer.send(b"x", relay)
    assert (await client.receive())[0][:2] == b"\x00\x17"
    await until(lambda: rig.traffic().packets_to_peer == 1)
    rig.plane.revoke(flow)
    rig.plane.revoke(other)


async def test_channels_come_and_go_by_the_thousand(rig):
    """The table grows, and what was taken out of it hides nothing that stays."""
    client, peer, relay = rig.end(), rig.end(), rig.open()
    elsewhere = [TransportAddress("127.0.0.9", port) for port in range(20_000, 20_600)]
    flows = [rig.bind(client, relay, far, CHANNEL + 1 + n) for n, far in enumerate(elsewhere)]
    mine = rig.bind(client, relay, peer)
    for flow in flows[::2] + flows[1::3]:
        rig.plane.revoke(flow)
        rig.send(client, b"x")
        assert (await peer.receive())[0] == b"x"
    peer.send(b"y", relay)
    assert (await client.receive())[0] == frame(CHANNEL, b"y")
    rig.plane.revoke(mine)
    rig.send(client, b"x")
    await until(lambda: rig.listener.unbound == 1)


@pytest.mark.parametrize("sizes", [[100] * 40, [100] * 9 + [40], [100, 40] * 8, [0, 0, 5, 5, 0], [1400] * 60])
async def test_bursts_arrive_packet_by_packet_in_order(any_rig, sizes):
    client, peer, relay = any_rig.end(), any_rig.end(), any_rig.open()
    any_rig.bind(client, relay, peer)
    burst = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    for data in burst:
        any_rig.send(client, data)
    assert [await peer.receive() for _ in burst] == [(data, relay) for data in burst]
    for data in burst:
        peer.send(data, relay)
    assert [(await client.receive())[0] for _ in burst] == [frame(CHANNEL, data) for data in burst]
    total = sum(sizes)
    assert any_rig.traffic() == Traffic(len(sizes), total, len(sizes), total)


async def test_many_clients_at_once_are_kept_apart(rig):
    flows = [(rig.end(), rig.end(), rig.open()) for _ in range(20)]
    for client, peer, relay in flows:
        rig.bind(client, relay, peer)
    for round_number in range(10):
        for number, (client, peer, relay) in enumerate(flows):
            rig.send(client, b"%d %d" % (number, round_number))
            peer.send(b"%d %d" % (number, round_number), relay)
    for round_number in range(10):
        for number, (client, peer, relay) in enumerate(flows):
            data = b"%d %d" % (number, round_number)
            assert await peer.receive() == (data, relay)
            assert (await client.receive())[0] == frame(CHANNEL, data)


async def test_a_peer_without_a_channel_is_heard_by_permission_only(rig):
    client, peer, stranger, relay = rig.end(), rig.end(), rig.end(), rig.open()
    flow = rig.bind(client, relay, peer)
    stranger.send(b"x", relay)
    assert (await client.receive())[0][:2] == b"\x00\x17"
    rig.plane.revoke(PermissionFlow(flow.path, relay, rig.host))
    stranger.send(b"x", relay)
    await until(lambda: rig.plane.drops() == {"no_permission": 1})


async def test_both_buckets_are_paid_from_and_a_refused_packet_costs_neither(new_rig):
    account = TokenBucket(0, 250, 0.0)
    rig = new_rig(burst=300, accounts={"alice": account})
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    for _ in range(3):
        rig.send(client, bytes(100))
    await until(lambda: rig.plane.drops() == {"bandwidth": 1})
    peer.send(bytes(51), relay)
    await until(lambda: rig.plane.drops() == {"bandwidth": 2})
    assert (rig.bandwidth.opened[0].allocation.level, account.level) == (100, 50)
    peer.send(bytes(50), relay)
    await client.receive()
    assert (rig.bandwidth.opened[0].allocation.level, account.level) == (50, 0)
    assert rig.traffic() == Traffic(2, 200, 1, 50)


async def test_buckets_fill_again_with_time(rig):
    bucket = TokenBucket(1000, 300, rig.clock.now)
    rig.bandwidth.accounts["alice"] = bucket
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    rig.send(client, bytes(300))
    await peer.receive()
    rig.clock.now += 0.125
    rig.send(client, bytes(100))
    await peer.receive()
    rig.send(client, bytes(100))
    await until(lambda: rig.plane.drops() == {"bandwidth": 1})
    assert (bucket.level, bucket.updated_at) == (25, rig.clock.now)


async def test_another_relayed_address_is_reached_within_the_process(rig):
    first, second, here, there = rig.end(), rig.end(), rig.open(), rig.open()
    rig.bind(first, here, there)
    rig.bind(second, there, here)
    rig.send(first, b"hello")
    assert (await second.receive())[0] == frame(CHANNEL, b"hello")
    assert rig.traffic() == Traffic(1, 5, 1, 5)


async def test_a_peer_that_is_gone_is_reported_and_nobody_else_suffers(any_rig):
    client, peer, gone, relay = any_rig.end(), any_rig.end(), any_rig.end(), any_rig.open()
    any_rig.bind(client, relay, peer)
    any_rig.bind(client, relay, gone, CHANNEL + 1)
    gone.sock.close()
    for number in range(10):
        any_rig.send(client, b"anybody?", CHANNEL + 1)
        report, _ = await client.receive()
        assert report[:2] == b"\x00\x17"
        assert b"\x80\x04\x00\x08" in report
        any_rig.send(client, b"%d" % number)
        assert (await peer.receive())[0] == b"%d" % number
        peer.send(b"%d" % number, relay)
        assert (await client.receive())[0] == frame(CHANNEL, b"%d" % number)


async def test_a_peer_that_cannot_be_sent_to_is_counted(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    rig.bind(client, relay, TransportAddress("255.255.255.255", 9), CHANNEL + 1)
    for _ in range(5):
        rig.send(client, b"x", CHANNEL + 1)
        rig.send(client, b"y")
    await until(lambda: rig.plane.drops() == {"peer_unreachable": 5})
    assert [(await peer.receive())[0] for _ in range(5)] == [b"y"] * 5
    assert rig.traffic() == Traffic(5, 5, 0, 0)


async def test_a_client_that_cannot_be_sent_to_is_counted(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    nowhere = ClientAddress(TransportAddress("255.255.255.255", 9))
    path = FiveTuple(Transport.UDP, rig.listener.address, nowhere)
    rig.plane.grant(ChannelFlow(path, relay, CHANNEL, peer.address), FOREVER)
    other = rig.open()
    rig.bind(client, other, peer)
    for _ in range(5):
        peer.send(b"x", relay)
        peer.send(b"y", other)
    await until(lambda: rig.plane.drops() == {"client_unreachable": 5})
    assert [(await client.receive())[0] for _ in range(5)] == [frame(CHANNEL, b"y")] * 5


async def test_a_relay_that_closes_in_the_middle_of_a_batch_takes_only_its_own_along(rig):
    """What the core answers to a request may end any flow while packets behind the request wait."""
    client, peer, first, second = rig.end(), rig.end(), rig.open(), rig.open()
    rig.bind(client, first, peer)
    rig.bind(client, second, peer, CHANNEL + 1)
    rig.driver.on_message = lambda: rig.plane.close(first)
    for _ in range(3):
        rig.send(client, b"before")
        rig.send(client, b"other", CHANNEL + 1)
    client.send(bytes(20), rig.listener.address)
    for _ in range(3):
        rig.send(client, b"after")
        rig.send(client, b"other", CHANNEL + 1)
    await until(lambda: rig.listener.unbound == 3)
    arrived = [await peer.receive() for _ in range(9)]
    assert sorted(arrived) == sorted([(b"before", first)] * 3 + [(b"other", second)] * 6)
    assert await peer.hears_nothing()


async def test_a_listener_that_closes_in_the_middle_of_a_batch_hears_no_more(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)

    def close() -> None:
        rig.plane.close(relay)
        rig.listener.close()

    rig.driver.on_message = close
    rig.send(client, b"before")
    client.send(bytes(20), rig.listener.address)
    rig.send(client, b"after")
    client.send(bytes(20), rig.listener.address)
    assert (await peer.receive())[0] == b"before"
    assert await peer.hears_nothing()
    assert len(rig.driver.messages) == 1


async def test_a_new_relay_on_a_port_just_closed_hears_nothing_of_the_old(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer)
    rig.send(client, b"x")
    await peer.receive()
    for number in range(25):
        rig.plane.close(relay)
        relay = rig.open()
        peer.send(b"x", relay)
        await until(lambda number=number: rig.plane.drops() == {"no_permission": number + 1})
        rig.bind(client, relay, peer)
        peer.send(b"y", relay)
        assert (await client.receive())[0] == frame(CHANNEL, b"y")
    assert rig.plane.drops() == {"no_permission": 25}


async def test_the_port_range_of_channels_is_that_of_rfc_5766(rig):
    client, peer, relay = rig.end(), rig.end(), rig.open()
    rig.bind(client, relay, peer, 0x7FFF)
    rig.send(client, b"x", 0x7FFF)
    assert (await peer.receive())[0] == b"x"


async def test_without_the_extension_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "turnrelay.relay._mover", None)
    monkeypatch.delattr(turnrelay.relay, "_mover", raising=False)
    with pytest.raises(MoverUnavailable, match="not built"):
        PacketMover(asyncio.get_running_loop(), lambda: 0.0)


def test_sockets_of_other_kinds_are_refused(mover):
    if mover == "python":
        pytest.skip("it is about the extension")
    from turnrelay.relay._mover import Mover

    moving = Mover(lambda: 0.0, True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        relay = moving.add(sock.fileno(), object(), False)
        with pytest.raises(ValueError, match="no channel"):
            moving.grant(relay, relay, CHANNEL, ("127.0.0.1", 1), ("127.0.0.1", 2), 1.0, ())
        with pytest.raises(LookupError):
            moving.remove(relay + 1)
        with pytest.raises(ValueError, match="no address"):
            moving.revoke(relay, ("not an address", 1))
        moving.remove(relay)
        with pytest.raises(LookupError):
            moving.traffic(relay)
        with pytest.raises(OSError, match="Bad file descriptor"):
            moving.add(10**6, object(), False)
    moving.close()
    moving.run()
