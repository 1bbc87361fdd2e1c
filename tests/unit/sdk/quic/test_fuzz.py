"""Who has no key can end nothing, whatever they send; the peer itself can do no worse than end its link."""

from random import Random

import pytest
from aioquic import tls
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from peerpath.quic import LinkClosed, StreamData, Transmit
from unit.sdk.quic.wire import DIALER, LISTENER, Wire, link, other


def mutated(random: Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        action = random.randrange(4)
        at = random.randrange(len(broken)) if broken else 0
        if action == 0 and broken:
            broken[at] ^= 1 << random.randrange(8)
        elif action == 1:
            del broken[at : at + random.randrange(1, 40)]
        elif action == 2:
            broken[at:at] = random.randbytes(random.randrange(1, 40))
        elif broken:
            broken[at:] = random.randbytes(len(broken) - at)
    return bytes(broken)


def garbage(random: Random, recorded: list[bytes]) -> bytes:
    if random.random() < 0.3:
        return random.randbytes(random.choice([0, 1, 5, 20, 60, 300, 1200, 1500]))
    first = random.choice([0x40, 0x5F, 0x80, 0xC0, 0xD0, 0xE0, 0xF0, 0xFF])
    if random.random() < 0.2:
        version = random.choice([b"\0\0\0\0", b"\0\0\0\1", b"\x6b\x33\x43\xcf", random.randbytes(4)])
        return bytes([first]) + version + random.randbytes(1300)
    return mutated(random, random.choice(recorded))


@pytest.mark.parametrize("role", [DIALER, LISTENER])
@pytest.mark.parametrize("seed", range(3))
def test_an_established_link_survives_two_thousand_forged_datagrams(role, seed):
    random = Random(seed)
    wire = Wire(seed=seed).establish()
    wire.dialer.send_stream(wire.dialer.open_stream(), bytes(20_000), wire.now)
    wire.run(1)
    recorded = [data for _, data in wire.sent]
    for _ in range(2000):
        outputs = wire.ends[role].receive(garbage(random, recorded), wire.now)
        assert outputs == []
        wire.carry(role, [])
        wire.run(0.001)
    for each in (DIALER, LISTENER):
        assert wire.all(each, LinkClosed) == []
    stream = wire.listener.open_stream()
    wire.listener.send_stream(stream, b"still here", wire.now)
    wire.run(2)
    assert wire.all(DIALER, StreamData)[-1] == StreamData(stream, b"still here", False)


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_a_handshake_raises_nothing_whatever_arrives(role):
    random = Random(7)
    recorded_wire = Wire().establish()
    recorded_wire.run(1)
    recorded = [data for _, data in recorded_wire.sent]
    for _ in range(30):
        target = link(role)
        own = [each.data for each in target.handle_timeout(0.0) if isinstance(each, Transmit)]
        for _ in range(40):
            target.receive(garbage(random, recorded + own), 0.0)
            target.handle_timeout(0.0)


def test_a_listener_under_forged_datagrams_still_lets_the_dialer_in():
    random = Random(11)
    recorded_wire = Wire().establish()
    recorded = [data for _, data in recorded_wire.sent]
    wire = Wire()
    for _ in range(1000):
        wire.carry(LISTENER, wire.listener.receive(garbage(random, recorded), 0.0))
        wire.carry(LISTENER, wire.listener.handle_timeout(0.0))
    wire.establish()


def sealed(link_of_peer, frames: bytes) -> bytes:
    """A packet that only the peer can make, with whatever bytes for frames."""
    connection = link_of_peer._connection
    builder = QuicPacketBuilder(
        host_cid=connection.host_cid,
        peer_cid=connection._peer_cid.cid,
        version=1,
        is_client=connection._is_client,
        max_datagram_size=1200,
        packet_number=connection._packet_number,
    )
    connection._packet_number += 1
    builder.start_packet(QuicPacketType.ONE_RTT, connection._cryptos[tls.Epoch.ONE_RTT])
    builder.start_frame(frames[0], capacity=len(frames)).push_bytes(frames[1:])
    [datagram], _ = builder.flush()
    return datagram


@pytest.mark.parametrize("role", [DIALER, LISTENER])
def test_a_peer_that_sends_nonsense_ends_its_link_at_worst(role):
    random = Random(5)
    ended = 0
    for _ in range(150):
        wire = Wire().establish()
        wire.run(0.2)
        target, hostile = wire.ends[role], wire.ends[other(role)]
        for _ in range(8):
            kind = random.choice([*range(0x02, 0x20), 0x30, 0x31, random.randrange(64)])
            numbers = [random.choice([0, 1, 2, 3, 5, 17, 63, 0x7FFF.bit_length()]) for _ in range(8)]
            frames = bytes([kind, *numbers]) + random.randbytes(random.randrange(1, 60))
            wire.carry(role, target.receive(sealed(hostile, frames), wire.now))
            wire.carry(role, target.handle_timeout(wire.now))
            wire.run(0.001)
        ended += len(wire.all(role, LinkClosed))
    assert ended > 50
