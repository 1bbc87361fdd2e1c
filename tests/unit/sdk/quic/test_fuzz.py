"""Whatever arrives on the path from somebody who has no key: it raises nothing and ends nothing."""

from random import Random

import pytest
from peerpath.quic import LinkClosed, StreamData, Transmit
from unit.sdk.quic.wire import DIALER, LISTENER, Wire, link


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
