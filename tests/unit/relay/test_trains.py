"""What arrives coalesced is moved datagram by datagram, and leaves coalesced where the extension moves it."""

import pytest
from support.netns import Network, inside
from support.requirements import require_root_and_netns
from turnrelay.core.token_bucket import TokenBucket
from unit.relay.listening import CHANNEL, Rig, frame
from unit.relay.loopback import V4, V6, FakeBandwidthPolicy, Peer, until
from unit.relay.trains import receive_train, send_train, take_trains, takes_trains

TRAINS = [[172] * 40, [100] * 9 + [40], [1200] * 54, [1] * 64, [171] * 64, [500] * 3 + [1], [1400]]
TRIAL = 64
"""Datagrams that the extension sees before it asks for trains."""


@pytest.fixture
async def new_rig(mover):
    made: list[Rig] = []

    def make(host: str = V4, **how) -> Rig:
        made.append(Rig(mover, host, FakeBandwidthPolicy(), **how))
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


async def flowing(rig: Rig, host: str | None = None):
    """A client and a peer whose data has come in trains before. The extension takes them as such by now."""
    client, peer, relay = rig.end(), Peer(host or rig.host), rig.open()
    rig.ends.append(peer)
    flow = rig.bind(client, relay, peer)
    for _ in range(3):
        send_train(client, [frame(CHANNEL, b"warm")] * TRIAL, rig.listener.address)
        send_train(peer, [b"warm"] * TRIAL, relay)
        for _ in range(TRIAL):
            assert (await peer.receive())[0] == b"warm"
            assert (await client.receive())[0] == frame(CHANNEL, b"warm")
    for sock in (rig.listener.sock, rig.plane.relays[relay].sock):
        assert takes_trains(sock) is (rig.mover is not None)
    return client, peer, relay, flow


def numbered(sizes: list[int]) -> list[bytes]:
    return [bytes([number]) * size for number, size in enumerate(sizes)]


async def arrived(end: Peer) -> list[bytes]:
    """What arrives as one at an end that takes trains."""
    found: list[list[bytes]] = []

    def is_there() -> bool:
        try:
            found.append(receive_train(end.sock))
        except BlockingIOError:
            return False
        return True

    await until(is_there)
    return found[0]


@pytest.mark.parametrize("sizes", TRAINS)
async def test_a_train_arrives_datagram_by_datagram_in_order(any_rig, sizes):
    client, peer, relay, _ = await flowing(any_rig)
    before, train, total = any_rig.traffic(), numbered(sizes), sum(sizes)
    # The last frame's length is less than its room where the last is shorter.
    send_train(client, [frame(CHANNEL, data) for data in train], any_rig.listener.address)
    assert [await peer.receive() for _ in train] == [(data, relay) for data in train]
    send_train(peer, train, relay)
    assert [(await client.receive())[0] for _ in train] == [frame(CHANNEL, data) for data in train]
    after = any_rig.traffic()
    assert after.packets_to_peer - before.packets_to_peer == len(train)
    assert after.bytes_to_peer - before.bytes_to_peer == total
    assert after.packets_from_peer - before.packets_from_peer == len(train)
    assert after.bytes_from_peer - before.bytes_from_peer == total


async def test_what_arrives_coalesced_leaves_coalesced(any_rig, mover):
    client, peer, relay, _ = await flowing(any_rig)
    if mover == "python":
        pytest.skip("Python moves each by itself")
    take_trains(client.sock)
    take_trains(peer.sock)
    train = numbered([1200] * 30 + [700])
    send_train(client, [frame(CHANNEL, data) for data in train], any_rig.listener.address)
    assert await arrived(peer) == train
    send_train(peer, train, relay)
    assert await arrived(client) == [frame(CHANNEL, data) for data in train]


@pytest.mark.parametrize("size", [172, 171, 1])
async def test_data_indications_leave_coalesced_too(rig, mover, size):
    client, peer, relay, flow = await flowing(rig, "127.0.0.2")
    rig.plane.revoke(flow)
    train = numbered([size] * 20)
    if mover == "c":
        take_trains(client.sock)
    send_train(peer, train, relay)
    messages = await arrived(client) if mover == "c" else [(await client.receive())[0] for _ in train]
    assert len({message[8:20] for message in messages}) == len(train), "each has its own transaction"
    for message, data in zip(messages, train, strict=True):
        assert message[:2] == b"\x00\x17"
        assert message.endswith(size.to_bytes(2, "big") + data + bytes(-size % 4))


async def test_what_is_unusual_in_a_train_is_handed_up_in_its_turn(rig):
    client, peer, _, _ = await flowing(rig)
    heard: list[int] = []
    rig.driver.on_message = lambda: heard.append(rig.traffic().packets_to_peer)
    before = rig.traffic().packets_to_peer
    train = [frame(CHANNEL, data) for data in numbered([24] * 12)]
    train[3] = bytes(28)  # STUN
    train[5] = frame(CHANNEL + 1, bytes(24))  # a channel of nobody
    train[7] = frame(CHANNEL, b"padded" + bytes(15)) + bytes(3)
    train[9] = b"\xff" * 28
    train[11] = train[11][:20]  # less than it says
    send_train(client, train, rig.listener.address)
    wanted = [data for number, data in enumerate(numbered([24] * 11)) if number not in (3, 5, 7, 9)]
    wanted.insert(5, b"padded" + bytes(15))
    assert [(await peer.receive())[0] for _ in wanted] == wanted
    await until(lambda: rig.listener.unbound == 2)
    assert (heard, rig.listener.garbage) == ([before + 3], 1)
    assert rig.driver.messages[0][0] == bytes(28)
    assert await peer.hears_nothing()


async def test_a_relay_that_closes_in_the_middle_of_a_train_hears_no_more_of_it(rig):
    client, peer, relay, _ = await flowing(rig)
    other = rig.open()
    rig.bind(client, other, peer, CHANNEL + 1)
    rig.driver.on_message = lambda: rig.plane.close(relay)
    train = [frame(CHANNEL + number % 2, bytes([number]) * 24) for number in range(20)]
    train[7] = bytes(28)
    send_train(client, train, rig.listener.address)
    await until(lambda: rig.listener.unbound == 6)
    wanted = [number for number in range(20) if number < 7 or (number % 2 and number != 7)]
    assert sorted([(await peer.receive())[0][0] for _ in wanted]) == wanted
    assert await peer.hears_nothing()


async def test_a_listener_that_closes_in_the_middle_of_a_train_hears_no_more_of_it(rig):
    client, peer, relay, _ = await flowing(rig)

    def close() -> None:
        rig.plane.close(relay)
        rig.listener.close()

    rig.driver.on_message = close
    train = [frame(CHANNEL, bytes(24))] * 10
    train[4] = train[6] = bytes(28)
    send_train(client, train, rig.listener.address)
    assert [(await peer.receive())[0] for _ in range(4)] == [bytes(24)] * 4
    assert await peer.hears_nothing()
    assert len(rig.driver.messages) == 1


async def test_more_than_can_wait_at_a_time_arrives_in_order(rig, mover):
    """Ten trains of the most datagrams there can be."""
    if mover == "python":
        pytest.skip("nothing waits there, and one by one they are too many for a socket's buffer")
    client, peer, relay, _ = await flowing(rig)
    trains = [[bytes([one, number]) for number in range(64)] for one in range(10)]
    for train in trains:
        send_train(peer, train, relay)
    for train in trains:
        assert [(await client.receive())[0] for _ in train] == [frame(CHANNEL, data) for data in train]
    assert rig.plane.drops() == {}


async def test_each_datagram_of_a_train_is_paid_for(rig):
    client, peer, _, _ = await flowing(rig)
    bucket = TokenBucket(0, 1050, rig.clock.now)
    rig.bandwidth.accounts["bob"] = bucket
    poor = rig.open("bob")
    rig.bind(client, poor, peer, CHANNEL + 1)
    send_train(
        client, [frame(CHANNEL + 1, bytes(100))] * 12 + [frame(CHANNEL + 1, bytes(50))], rig.listener.address
    )
    assert [len((await peer.receive())[0]) for _ in range(11)] == [100] * 10 + [50]
    await until(lambda: rig.plane.drops() == {"bandwidth": 2})
    assert bucket.level == 0


async def test_trains_are_asked_for_where_datagrams_follow_others_of_their_source(rig, mover):
    ends = [(rig.end(), rig.end(), rig.open()) for _ in range(6)]
    for client, peer, relay in ends:
        rig.bind(client, relay, peer)
    for _ in range(3 * TRIAL // len(ends)):
        for client, _, _ in ends:
            rig.send(client, bytes(172))
        for _, peer, _ in ends:
            await peer.receive()
    assert not takes_trains(rig.listener.sock)
    for client, peer, _ in ends[:1]:
        for _ in range(3):
            for _ in range(TRIAL):
                rig.send(client, bytes(172))
            for _ in range(TRIAL):
                await peer.receive()
    assert takes_trains(rig.listener.sock) is (mover == "c")
    assert not any(takes_trains(relay.sock) for relay in rig.plane.relays.values())


async def test_what_the_way_does_not_let_through_as_one_goes_one_by_one(mover):
    """The peer's way takes 700 bytes, and what is larger in fragments."""
    require_root_and_netns()
    with Network() as network:
        host = network.host("host")
        narrow = "127.0.0.9"
        host.ip("route", "replace", "local", narrow, "dev", "lo", "mtu", "700", "table", "local")
        with inside(host):
            rig = Rig(mover, V4, FakeBandwidthPolicy())
            try:
                client, peer, _, _ = await flowing(rig, narrow)
                for size in (1200, 1200, 600):
                    train = numbered([size] * 20)
                    send_train(client, [frame(CHANNEL, data) for data in train], rig.listener.address)
                    assert [(await peer.receive())[0] for _ in train] == train
                assert rig.plane.drops() == {}
                take_trains(peer.sock)
                send_train(client, [frame(CHANNEL, data) for data in train], rig.listener.address)
                assert await arrived(peer) == (train if mover == "c" else train[:1])
            finally:
                rig.close()


async def test_a_socket_that_took_trains_is_read_rightly_by_the_next_process(new_rig, mover):
    """In Python too, where trains that wait when it is handed over are lost, not taken for datagrams."""
    rig = new_rig()
    client, peer, relay = rig.end(), rig.end(), rig.open()
    sock = rig.plane.give_away(relay)
    take_trains(sock)
    train = numbered([100] * 20)
    send_train(peer, train, relay)
    rig.plane.adopt(sock, relay, "alice")
    rig.bind(client, relay, peer)
    assert takes_trains(sock) is (mover == "c")
    if mover == "c":
        assert [(await client.receive())[0] for _ in train] == [frame(CHANNEL, data) for data in train]
    assert await client.hears_nothing()
    send_train(peer, train, relay)
    assert [(await client.receive())[0] for _ in train] == [frame(CHANNEL, data) for data in train]


async def test_nothing_is_asked_for_where_the_kernels_programs_see_what_is_coalesced(new_rig):
    rig = new_rig(may_take_trains=False)
    client, peer, relay = rig.end(), rig.end(), rig.open()
    sock = rig.plane.give_away(relay)
    take_trains(sock)
    rig.plane.adopt(sock, relay, "alice")
    assert not takes_trains(sock)
    rig.bind(client, relay, peer)
    for _ in range(3):
        send_train(peer, [b"x"] * TRIAL, relay)
        assert [(await client.receive())[0] for _ in range(TRIAL)] == [frame(CHANNEL, b"x")] * TRIAL
    assert not takes_trains(sock)
