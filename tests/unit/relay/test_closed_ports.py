"""A peer whose port is closed: its ICMP errors cost the others neither packets nor their order."""

import pytest
from stunwire import ICMP, XOR_PEER_ADDRESS, Message, TransportAddress
from turnrelay.relay.plane import Traffic
from unit.relay.listening import CHANNEL, Rig
from unit.relay.loopback import V4, V6, FakeBandwidthPolicy, Peer, until
from unit.relay.trains import send_train

TO_CLOSED = CHANNEL + 1
PORT_UNREACHABLE = {V4: (3, 3), V6: (1, 4)}
"""Type and code of ICMP (RFC 792) and ICMPv6 (RFC 4443)."""
QUEUED = [1, 2, 17, 40]


@pytest.fixture(params=[V4, V6])
async def rig(request, mover, has_ipv6):
    made = Rig(mover, request.param, FakeBandwidthPolicy())
    yield made
    made.close()


def close_port(peer: Peer) -> TransportAddress:
    """Where the peer was."""
    address = peer.address
    peer.sock.close()
    return address


def queue_errors(rig: Rig, relay: TransportAddress, closed: TransportAddress, number: int) -> None:
    """As many ICMP errors as `number` wait at the relay's socket when nobody has read one yet."""
    sock, left = rig.plane.relays[relay].sock, number
    while left:
        try:
            sock.sendto(b"anybody there?", tuple(closed))
            left -= 1
        except ConnectionRefusedError:
            continue  # what an earlier one brought back


def heard(client: Peer) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(client.sock.recv(65536))
    except BlockingIOError:
        return found


async def errors_heard(client: Peer, number: int) -> list[Message]:
    """The first so many messages that a client is sent."""
    frames: list[bytes] = []

    def enough() -> bool:
        frames.extend(heard(client))
        return len(frames) >= number

    await until(enough)
    return [Message.decode(frame) for frame in frames]


@pytest.mark.parametrize("packets", [1, 5])
@pytest.mark.parametrize("queued", QUEUED)
async def test_packets_to_a_peer_that_listens_all_arrive_in_order(rig, queued, packets):
    """One that leaves alone, or several that leave in one call; the first meets another's error."""
    client, live, other, relay = rig.end(), rig.end(), rig.end(), rig.open()
    closed = close_port(rig.end())
    for channel, peer in ((CHANNEL, live), (TO_CLOSED, closed), (CHANNEL + 2, other)):
        rig.bind(client, relay, peer, channel)
    for number in range(packets):
        rig.send(client, b"%d" % number, CHANNEL)
        if packets > 1:  # so that they are no train
            rig.send(client, b"other", CHANNEL + 2)
    queue_errors(rig, relay, closed, queued)
    for number in range(packets):
        assert await live.receive() == (b"%d" % number, relay)
    assert rig.plane.drops() == {}


@pytest.mark.parametrize("queued", QUEUED)
async def test_a_train_to_a_peer_that_listens_arrives_in_order(rig, queued):
    client, live, relay = rig.end(), rig.end(), rig.open()
    closed = close_port(rig.end())
    rig.bind(client, relay, live)
    rig.bind(client, relay, closed, TO_CLOSED)
    train = [bytes([number]) * 100 for number in range(20)]
    frames = [CHANNEL.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for data in train]
    send_train(client, frames, rig.listener.address)
    queue_errors(rig, relay, closed, queued)
    assert [await live.receive() for _ in train] == [(data, relay) for data in train]
    assert rig.plane.drops() == {}


@pytest.mark.parametrize("queued", QUEUED)
async def test_what_the_core_sends_is_not_lost_either(rig, queued):
    """Send indications with DONT-FRAGMENT, for example, which no mover carries."""
    client, live, relay = rig.end(), rig.end(), rig.open()
    closed = close_port(rig.end())
    rig.bind(client, relay, live)
    queue_errors(rig, relay, closed, queued)
    rig.plane.send(relay, live.address, b"whole", dont_fragment=True)
    assert await live.receive() == (b"whole", relay)
    assert rig.plane.drops() == {}


async def test_a_flow_beside_packets_to_a_closed_port_is_whole_and_in_order(rig):
    client, live, relay = rig.end(), rig.end(), rig.open()
    closed = close_port(rig.end())
    rig.bind(client, relay, live)
    rig.bind(client, relay, closed, TO_CLOSED)
    number, rounds, burst = 0, 20, 16
    for _ in range(rounds):
        expected = []
        for _ in range(burst):
            expected.append(b"%d" % number)
            rig.send(client, expected[-1])
            rig.send(client, b"anybody there?", TO_CLOSED)
            number += 1
        assert [(await live.receive())[0] for _ in expected] == expected
        heard(client)
    size = sum(len(b"%d" % n) for n in range(number)) + number * len(b"anybody there?")
    await until(lambda: rig.traffic() == Traffic(2 * number, size, 0, 0))
    assert rig.plane.drops() == {}


@pytest.mark.parametrize("queued", QUEUED)
@pytest.mark.parametrize("sends", [False, True])
async def test_the_client_is_told_of_every_error(rig, queued, sends):
    """RFC 8656 section 11.5, also where packets to others met these errors first."""
    client, live, relay = rig.end(), rig.end(), rig.open()
    closed = close_port(rig.end())
    rig.bind(client, relay, live)
    rig.bind(client, relay, closed, TO_CLOSED)
    if sends:
        rig.send(client, b"x")
    queue_errors(rig, relay, closed, queued)
    messages = await errors_heard(client, queued)
    assert len(messages) == queued
    for message in messages:
        icmp = message.get(ICMP)
        assert (icmp.type, icmp.code) == PORT_UNREACHABLE[rig.host]
        assert message.get(XOR_PEER_ADDRESS) == closed


async def test_what_itself_cannot_be_sent_is_counted_once_and_holds_nothing_up(mover):
    rig = Rig(mover, V4, FakeBandwidthPolicy())
    try:
        client, live, relay = rig.end(), rig.end(), rig.open()
        rig.bind(client, relay, TransportAddress("255.255.255.255", 9), TO_CLOSED)
        rig.bind(client, relay, live)
        for number in range(10):
            rig.send(client, b"x", TO_CLOSED)
            rig.send(client, b"%d" % number)
        for number in range(10):
            assert await live.receive() == (b"%d" % number, relay)
        await until(lambda: rig.plane.drops() == {"peer_unreachable": 10})
        assert rig.traffic() == Traffic(10, 10, 0, 0)
    finally:
        rig.close()
