"""Frames of streams: those that the mover takes apart are stunwire's, and each goes where it belongs."""

import asyncio
import math
import random
import socket
import struct

import pytest
from stunwire import (
    DATA,
    XOR_PEER_ADDRESS,
    DecodeError,
    Message,
    MessageClass,
    Method,
    StreamFramer,
    TransportAddress,
)
from support.native import build_mover
from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.plane import Traffic
from unit.relay.core_rig import NEAR, CoreRig, StreamEnd
from unit.relay.loopback import V4, FakeBandwidthPolicy, until

CHANNEL = 0x4000


class Owner:
    """Notes what it is handed."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, bool]] = []
        self.breaks = 0

    def receive(self, frame: bytes, is_last: bool) -> None:
        self.frames.append((frame, is_last))

    def break_off(self) -> None:
        self.breaks += 1


def some_frame(chance: random.Random) -> bytes:
    data = chance.randbytes(chance.choice((0, 1, 2, 3, 4, 16, 172, 172, 5000, 65_535)))
    if chance.random() < 0.5:
        number = chance.choice((0x4000, 0x4FFF, 0x7FFF))
        return struct.pack("!HH", number, len(data)) + data + bytes(-len(data) % 4)
    body = data[: len(data) & ~3]
    return (
        struct.pack("!HHI", chance.choice((1, 0x16, 0x3FFF)), len(body), 0x2112A442)
        + chance.randbytes(12)
        + body
    )


def some_pieces(chance: random.Random, data: bytes) -> list[bytes]:
    pieces, most = [], chance.choice((1, 3, 7, 200, 5000, 100_000))
    while data:
        size = chance.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("seed", range(150))
def test_frames_are_those_of_stunwire_however_the_stream_is_cut(seed):
    build_mover()
    from turnrelay.relay._mover import Mover

    chance = random.Random(seed)
    data = bytearray(b"".join(some_frame(chance) for _ in range(chance.choice((1, 3, 10)))))
    if chance.random() < 0.4:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    if len(data) > 60_000:
        data = data[-60_000:] if chance.random() < 0.2 else data
    owner, framer, mover = Owner(), StreamFramer(), Mover(lambda: 5.0, False)
    stream = mover.add_stream(("192.0.2.1", 1), owner)
    feed, completed_at = mover.feeder(stream), -math.inf
    for piece in some_pieces(chance, bytes(data))[:20_000]:
        before = len(owner.frames)
        feed(piece)
        try:
            expected = framer.feed(piece)
        except DecodeError:
            expected = []
        lasts = [False] * len(expected)
        if expected:
            lasts[-1] = not framer.holds_part and not framer.failed
        assert owner.frames[before:] == list(zip(expected, lasts, strict=True))
        assert owner.breaks == framer.failed
        if framer.failed:
            break
        completed_at = 5.0 if expected else completed_at
        assert mover.completed_at(stream) == completed_at
        assert mover.unread(stream) == framer.unread
    mover.remove(stream)
    with pytest.raises(LookupError):
        feed(b"x")
    mover.close()


@pytest.fixture
async def new_rig(mover):
    made: list[CoreRig] = []

    def make(**bandwidth) -> CoreRig:
        made.append(CoreRig(mover, FakeBandwidthPolicy(**bandwidth)))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def frame(data: bytes, channel: int = CHANNEL) -> bytes:
    return struct.pack("!HH", channel, len(data)) + data + bytes(-len(data) % 4)


def indication(peer, data: bytes) -> bytes:
    message = Message(MessageClass.INDICATION, Method.SEND)
    return message.add(XOR_PEER_ADDRESS, peer).add(DATA, data).encode()


@pytest.mark.parametrize("size", [1, 5, 100, 1 << 20])
async def test_channel_data_and_indications_arrive_in_order_however_they_are_cut(new_rig, size):
    rig = new_rig()
    client, peer = await rig.stream(), rig.end(NEAR)
    rig.allocate(client)
    rig.bind(client, CHANNEL, peer.address)
    data = [b"%d" % number * (number % 50) for number in range(300)]
    stream = b"".join(indication(peer.address, one) if len(one) % 7 == 0 else frame(one) for one in data)
    for start in range(0, len(stream), size):
        client.sock.setblocking(True)
        client.send(stream[start : start + size], rig.relay(client))
        client.sock.setblocking(False)
    assert [await peer.receive() for _ in data] == [(one, rig.relay(client)) for one in data]
    total = sum(map(len, data))
    assert rig.plane.traffic()[Transport.TCP] == Traffic(len(data), total, 0, 0)


async def test_frames_are_moved_without_python_where_the_extension_is(new_rig, mover):
    rig = new_rig()
    client, peer = await rig.stream(), rig.end(NEAR)
    allocation = rig.allocate(client)
    rig.bind(client, CHANNEL, peer.address)
    rig.say(client, frame(b"x") * 3)
    for _ in range(3):
        await peer.receive()
    address = next(iter(allocation.relays.values())).address
    assert rig.plane.relays[address].own_traffic == (Traffic() if mover == "c" else Traffic(3, 3, 0, 0))


async def test_a_channel_of_nobody_is_counted_and_a_broken_stream_ends(new_rig):
    rig = new_rig()
    client, peer = await rig.stream(), rig.end(NEAR)
    rig.allocate(client)
    rig.bind(client, CHANNEL, peer.address)
    rig.say(client, frame(b"x", CHANNEL + 1) + frame(b"y") + b"\xff")
    assert (await peer.receive())[0] == b"y"
    clients = rig.streams.clients
    await until(lambda: not clients.connections)
    assert (clients.unbound, clients.broken) == (1, 1)
    assert not rig.server.state.allocations


async def test_a_stream_that_ends_leaves_nothing_behind(new_rig):
    rig = new_rig()
    peer = rig.end(NEAR)
    for number in range(20):
        client = await rig.stream()
        rig.allocate(client)
        rig.bind(client, CHANNEL, peer.address)
        rig.say(client, frame(b"%d" % number) + frame(b"a part")[:-3])
        assert (await peer.receive())[0] == b"%d" % number
        client.sock.close()
        await until(lambda: not rig.streams.clients.connections)
    assert not rig.plane.relays


async def test_both_buckets_are_paid_from(new_rig):
    account = TokenBucket(0, 250, 0.0)
    rig = new_rig(burst=300, accounts={"alice": account})
    client, peer = await rig.stream(), rig.end(NEAR)
    rig.allocate(client)
    rig.bind(client, CHANNEL, peer.address)
    rig.say(client, frame(bytes(100)) * 3)
    await until(lambda: rig.plane.drops() == {"bandwidth": 1})
    assert (rig.bandwidth.opened[0].allocation.level, account.level) == (100, 50)
    assert rig.plane.traffic()[Transport.TCP] == Traffic(2, 200, 0, 0)


async def test_a_connection_may_end_after_the_mover_did(new_rig, caplog):
    """A relay that stops aborts its connections, and hears of their ends when all else is closed."""
    rig = new_rig()
    client = await rig.stream()
    rig.allocate(client)
    [connection] = rig.streams.clients.connections
    connection.abort()
    rig.close()
    await until(lambda: not rig.streams.clients.connections)
    assert not caplog.records


async def test_a_connection_of_another_process_goes_on_in_the_middle_of_a_frame(new_rig, mover):
    rig = new_rig()
    peer, listening = rig.end(NEAR), socket.create_server((V4, 0))
    client = StreamEnd(TransportAddress(*listening.getsockname()))
    sock, _ = listening.accept()
    server = ServerAddress(TransportAddress(*listening.getsockname()))
    path = FiveTuple(Transport.TCP, server, ClientAddress(client.address))
    whole = frame(b"in two processes")
    connection = rig.streams.clients.expect(path, None, whole[:7])
    rig.allocate_on(path)
    rig.bind_on(path, CHANNEL, peer.address)
    sock.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
    client.send(whole[7:], server)
    assert (await peer.receive())[0] == b"in two processes"
    [allocation] = rig.server.state.allocations.values()
    address = next(iter(allocation.relays.values())).address
    assert rig.plane.relays[address].own_traffic == (Traffic() if mover == "c" else Traffic(1, 16, 0, 0))
    client.sock.close()
    await until(lambda: not rig.streams.clients.connections)
    listening.close()
