"""Send and Data indications on the data path: the core is asked once about each peer, then not any more."""

import pytest
from stunwire import (
    DATA,
    DONT_FRAGMENT,
    SOFTWARE,
    XOR_PEER_ADDRESS,
    Attribute,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from turnrelay.core.addresses import PeerAddress, Transport, family_of
from turnrelay.core.events import PeerDenied
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.plane import Traffic
from unit.relay.core_rig import FAR, NEAR, CoreRig
from unit.relay.loopback import V4, V6, FakeBandwidthPolicy, until

TRANSPORTS = [Transport.UDP, Transport.TCP]
SIZES = [0, 1, 3, 4, 172, 1200, 9000]


@pytest.fixture
async def new_rig(mover, has_ipv6):
    made: list[CoreRig] = []

    def make(**bandwidth) -> CoreRig:
        made.append(CoreRig(mover, FakeBandwidthPolicy(**bandwidth)))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
async def rig(new_rig) -> CoreRig:
    return new_rig()


def indication(peer, data, *more, fingerprint=False) -> bytes:
    message = Message(MessageClass.INDICATION, Method.SEND).add(XOR_PEER_ADDRESS, peer).add(DATA, data)
    for attribute, value in more:
        message.add(attribute, value)
    return message.encode(fingerprint=fingerprint)


async def client_on(rig, transport, host=V4):
    client = rig.end(host) if transport is Transport.UDP else await rig.stream()
    rig.allocate(client)
    return client


async def hears(client) -> bytes:
    heard: list[bytes] = []
    await until(lambda: bool(heard.extend(client.heard()) or heard))
    [message] = heard
    return message


async def nothing_arrives_of(rig, client, peer, message) -> None:
    """What the core is sent behind it has arrived, and the peer has heard nothing."""
    asked = rig.asked
    rig.say(client, message)
    rig.say(client, Message(MessageClass.INDICATION, Method.BINDING).encode())
    await until(lambda: rig.asked > asked)
    assert await peer.hears_nothing()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", [NEAR, V6])
async def test_data_passes_whole_both_ways_and_the_core_is_asked_once(rig, transport, host):
    client, peer = await client_on(rig, transport), rig.end(host)
    rig.permit(client, peer.address)
    relay = rig.relay(client, family_of(host))
    for size in SIZES:
        data = bytes(number % 251 for number in range(size))
        rig.say(client, indication(peer.address, data))
        assert await peer.receive() == (data, relay)
        peer.send(data, relay)
        message = Message.decode(await hears(client))
        assert (message.message_class, message.method) == (MessageClass.INDICATION, Method.DATA)
        assert (message.get(XOR_PEER_ADDRESS), message.get(DATA)) == (peer.address, data)
        assert len(message.attributes) == 2
    assert rig.asked == 1
    total = sum(SIZES)
    assert rig.plane.traffic()[transport] == Traffic(len(SIZES), total, len(SIZES), total)


async def test_clients_on_ipv6_are_served_alike(rig):
    client, peer = await client_on(rig, Transport.UDP, V6), rig.end(NEAR)
    rig.permit(client, peer.address)
    for number in range(3):
        rig.say(client, indication(peer.address, b"%d" % number))
        assert (await peer.receive())[0] == b"%d" % number
        peer.send(b"back", rig.relay(client))
        assert Message.decode(await hears(client)).get(DATA) == b"back"
    assert rig.asked == 1


async def test_the_extension_moves_what_was_admitted(rig, mover):
    """Not Python, which would do it too: that is what the other tests could not tell."""
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    for _ in range(3):
        rig.say(client, indication(peer.address, b"out"))
        await peer.receive()
    peer.send(b"back", rig.relay(client))
    await hears(client)
    [address, _] = [relay.address for relay in rig.server.state.allocations[rig.path(client)].relays.values()]
    own = rig.plane.relays[address].own_traffic
    assert own == (Traffic(1, 3, 0, 0) if mover == "c" else Traffic(3, 9, 1, 4))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_host_that_was_not_permitted_gets_nothing(rig, transport):
    client, peer, other = await client_on(rig, transport), rig.end(NEAR), rig.end(FAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    await nothing_arrives_of(rig, client, other, indication(other.address, b"x"))
    other.send(b"x", rig.relay(client))
    await until(lambda: rig.plane.drops() == {"no_permission": 1})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_was_admitted_ends_with_its_permission(rig, transport):
    client, peer = await client_on(rig, transport), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    rig.clock.now += 299.9
    rig.say(client, indication(peer.address, b"in time"))
    assert (await peer.receive())[0] == b"in time"
    rig.clock.now += 0.1
    await nothing_arrives_of(rig, client, peer, indication(peer.address, b"late"))
    peer.send(b"late", rig.relay(client))
    await until(lambda: rig.plane.drops() == {"no_permission": 1})
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"again"))
    assert (await peer.receive())[0] == b"again"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_permission_that_is_renewed_goes_on_without_a_question(rig, transport):
    client, peer = await client_on(rig, transport), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    for _ in range(3):
        rig.clock.now += 200
        rig.permit(client, peer.address)
        rig.say(client, indication(peer.address, b"x"))
        await peer.receive()
    peer.send(b"y", rig.relay(client))
    assert Message.decode(await hears(client)).get(DATA) == b"y"
    assert rig.asked == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_denied_port_of_a_permitted_host_is_told_to_the_operator_each_time(rig, transport):
    client, peer, denied = await client_on(rig, transport), rig.end(NEAR), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.deny(denied.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    for number in range(3):
        rig.say(client, indication(denied.address, b"x"))
        await until(lambda number=number: len(rig.events) == number + 1)
    assert all(isinstance(event, PeerDenied) for event in rig.events)
    assert await denied.hears_nothing()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_core_is_asked_again_when_policy_has_changed(rig, transport):
    client, peer = await client_on(rig, transport), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    rig.deny(peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await until(lambda: len(rig.events) == 1)
    assert await peer.hears_nothing()
    rig.deny(peer.address, False)
    rig.say(client, indication(peer.address, b"y"))
    assert (await peer.receive())[0] == b"y"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_passes_after_the_allocation_ended(rig, transport):
    client, peer = await client_on(rig, transport), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    rig.release(client)
    await nothing_arrives_of(rig, client, peer, indication(peer.address, b"x"))
    rig.allocate(client)
    await nothing_arrives_of(rig, client, peer, indication(peer.address, b"x"))
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"y"))
    assert await peer.receive() == (b"y", rig.relay(client))


async def test_another_client_cannot_use_what_was_admitted(rig):
    client, other, peer = await client_on(rig, Transport.UDP), rig.end(), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    await nothing_arrives_of(rig, other, peer, indication(peer.address, b"x"))
    rig.allocate(other)
    await nothing_arrives_of(rig, other, peer, indication(peer.address, b"x"))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_relayed_address_of_ours_is_reached_within_the_process(rig, transport):
    first, second = await client_on(rig, transport), await client_on(rig, Transport.UDP)
    here, there = rig.relay(first), rig.relay(second)
    rig.permit(first, there)
    rig.permit(second, here)
    for number in range(3):
        rig.say(first, indication(there, b"%d" % number))
        message = Message.decode(await hears(second))
        assert (message.get(XOR_PEER_ADDRESS), message.get(DATA)) == (here, b"%d" % number)
    assert rig.asked == 3


async def test_both_buckets_are_paid_from_and_a_refused_packet_costs_neither(new_rig):
    account = TokenBucket(0, 250, 0.0)
    rig = new_rig(burst=300, accounts={"alice": account})
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    own = rig.bandwidth.opened[0].allocation
    for _ in range(3):
        rig.say(client, indication(peer.address, bytes(100)))
    await until(lambda: rig.plane.drops() == {"bandwidth": 1})
    peer.send(bytes(51), rig.relay(client))
    await until(lambda: rig.plane.drops() == {"bandwidth": 2})
    assert (own.level, account.level) == (100, 50)
    peer.send(bytes(50), rig.relay(client))
    await hears(client)
    assert (own.level, account.level) == (50, 0)
    assert rig.plane.traffic()[Transport.UDP] == Traffic(2, 200, 1, 50)


@pytest.mark.parametrize(
    "unusual",
    [
        pytest.param([(DONT_FRAGMENT, True)], id="DONT-FRAGMENT"),
        pytest.param([(Attribute.opaque(0xC0DE, "?"), b"x")], id="an optional attribute that is unknown"),
        pytest.param([(SOFTWARE, "grün")], id="SOFTWARE that is not ASCII"),
    ],
)
async def test_what_is_unusual_goes_to_the_core_each_time(rig, unusual):
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    for number in range(3):
        rig.say(client, indication(peer.address, b"%d" % number, *unusual))
        assert (await peer.receive())[0] == b"%d" % number
        rig.say(client, indication(peer.address, b"usual"))
        assert (await peer.receive())[0] == b"usual"
    assert 3 <= rig.asked <= 4


async def test_software_and_fingerprint_are_no_reason_to_ask(rig, mover):
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    for number in range(5):
        message = indication(peer.address, b"%d" % number, (SOFTWARE, "a client"), fingerprint=True)
        rig.say(client, message)
        assert (await peer.receive())[0] == b"%d" % number
    assert rig.asked == (1 if mover == "c" else 5)
    await nothing_arrives_of(rig, client, peer, message[:-1] + bytes([message[-1] ^ 1]))


async def test_of_a_host_with_very_many_ports_the_core_is_asked_beyond_the_first(rig):
    client, peers = await client_on(rig, Transport.UDP), [rig.end(NEAR) for _ in range(70)]
    rig.permit(client, peers[0].address)
    for _ in range(2):
        for peer in peers:
            rig.say(client, indication(peer.address, b"x"))
            await peer.receive()
    assert rig.asked == 70 + 6


async def test_bursts_arrive_packet_by_packet_in_order(rig):
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    burst = [bytes([number]) * size for number, size in enumerate([100] * 20 + [7, 100, 0, 0, 5, 5] * 5)]
    for data in burst:
        rig.say(client, indication(peer.address, data))
    assert [(await peer.receive())[0] for _ in burst] == burst
    for data in burst:
        peer.send(data, rig.relay(client))
    heard: list[bytes] = []
    await until(lambda: bool(heard.extend(client.heard())) or len(heard) == len(burst))
    messages = [Message.decode(message) for message in heard]
    assert [message.get(DATA) for message in messages] == burst
    assert len({message.transaction_id for message in messages}) == len(burst)


async def test_a_channel_and_indications_to_one_peer_are_both_served(rig):
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.bind(client, 0x4000, peer.address)
    for _ in range(3):
        rig.say(client, indication(peer.address, b"x"))
        assert (await peer.receive())[0] == b"x"
        rig.say(client, b"\x40\x00\x00\x01y")
        assert (await peer.receive())[0] == b"y"
        peer.send(b"z", rig.relay(client))
        assert await hears(client) == b"\x40\x00\x00\x01z"
    assert rig.asked == 1


async def test_a_peer_that_is_gone_is_reported_and_nobody_else_suffers(rig):
    client, peer, gone = await client_on(rig, Transport.UDP), rig.end(NEAR), rig.end(FAR)
    rig.permit(client, peer.address, gone.address)
    nowhere = gone.address
    gone.sock.close()
    for number in range(5):
        rig.say(client, indication(nowhere, b"anybody?"))
        report = await hears(client)
        assert report[:2] == b"\x00\x17"
        assert b"\x80\x04\x00\x08" in report
        rig.say(client, indication(peer.address, b"%d" % number))
        assert (await peer.receive())[0] == b"%d" % number


async def test_a_peer_with_port_zero_is_unreachable_and_harms_nothing(rig):
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    nowhere = PeerAddress(TransportAddress(NEAR, 0))
    for number in range(3):
        rig.say(client, indication(nowhere, b"x"))
        await until(lambda number=number: rig.plane.drops() == {"peer_unreachable": number + 1})
        rig.say(client, indication(peer.address, b"y"))
        await peer.receive()
    assert rig.plane.traffic()[Transport.UDP] == Traffic(3, 3, 0, 0)


async def test_a_listener_that_closes_takes_what_was_admitted_there_along(rig):
    client, peer = await client_on(rig, Transport.UDP), rig.end(NEAR)
    rig.permit(client, peer.address)
    rig.say(client, indication(peer.address, b"x"))
    await peer.receive()
    relay = rig.relay(client)
    rig.listeners.pop(V4).close()
    peer.send(b"y", relay)
    await until(lambda: rig.plane.drops() == {"client_unreachable": 1})
