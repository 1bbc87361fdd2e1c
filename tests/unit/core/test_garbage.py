"""Arbitrary bytes at the door of the core: nothing raises, nothing is answered twice, nothing is left behind.

The mutations of sealed requests are sealed again, so that they get past authentication and into the
procedures. Bounded and seeded, so that a failure comes back.
"""

import random
import struct

import pytest
from stunwire import (
    CHANNEL_NUMBER,
    DATA,
    LIFETIME,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    AttributeType,
    Method,
)
from turnrelay.core.outputs import CloseRelay, Grant, OpenRelay, Output, Reply
from unit.core.turn_client import HERE, PEER, SHA256, STREAM, UDP, bare, form_send, only, seal, tlv

ROUNDS = 20_000
METHODS = [Method.ALLOCATE, Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND]
KINDS = [*(int(kind) for kind in AttributeType), 0x0000, 0x0002, 0x7F00, 0x8031, 0xFFFF]


def check(outputs: list[Output], path) -> None:
    """What holds for whatever came in."""
    assert len(only(outputs, Reply)) <= 1
    for reply in only(outputs, Reply):
        assert reply.path == path
        assert reply.data[0] == 0x01, "only responses leave"
    assert len(only(outputs, OpenRelay)) <= 2


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut, doubled or put elsewhere."""
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        if not mutant:
            break
        at = rng.randrange(len(mutant))
        match rng.randrange(6):
            case 0:
                mutant[at] ^= 1 << rng.randrange(8)
            case 1:
                mutant[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del mutant[at : at + rng.randrange(1, 9)]
            case 3:
                mutant[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                mutant[at:at] = mutant[at : at + rng.randrange(1, 33)]
            case 5:
                mutant[2:4] = struct.pack("!H", max(0, len(mutant) - 20) & 0xFFFF)
    return bytes(mutant)


@pytest.fixture
def busy(world):
    """A server with some of everything, and what honest clients send."""
    clients = [world.client(), world.client(STREAM, "bob", algorithm=SHA256, anonymous=True)]
    seeds = [bare(Method.BINDING), form_send((XOR_PEER_ADDRESS, PEER), (DATA, b"some data"))]
    for client in clients:
        client.allocate()
        client.bind(0x4000, PEER)
        seeds += [
            client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), (LIFETIME, 600), fingerprint=True),
            client.form(Method.REFRESH, (LIFETIME, 600)),
            client.form(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, PEER), (XOR_PEER_ADDRESS, PEER)),
            client.form(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, PEER)),
        ]
    return world, clients, seeds


def test_random_bytes(busy):
    world, _, _ = busy
    rng = random.Random(1)
    for _ in range(ROUNDS):
        outputs = world.deliver(rng.randbytes(rng.randrange(120)), HERE, 1)
        assert outputs == []


def test_random_bodies_behind_a_sound_header(busy):
    world, clients, _ = busy
    rng = random.Random(2)
    for number in range(ROUNDS):
        body = rng.randbytes(4 * rng.randrange(30))
        kind = rng.choice((0x0001, 0x0003, 0x0004, 0x0006, 0x0008, 0x0009, 0x0016, rng.randrange(0x4000)))
        data = struct.pack("!HHI", kind, len(body), 0x2112A442) + number.to_bytes(12, "big") + body
        path = rng.choice(clients).path
        check(world.deliver(data, path, 1 + number / 10), path)


def test_mutants_of_honest_messages(busy):
    world, clients, seeds = busy
    rng = random.Random(3)
    for number in range(ROUNDS):
        path = rng.choice(clients).path
        check(world.deliver(mutated(rng, rng.choice(seeds)), path, 1 + number / 10), path)


def random_value(rng: random.Random, kind: int) -> bytes:
    """Bytes of a likely length for the type, or of any."""
    size = {0x0012: 8, 0x0016: 8, 0x0018: 1, 0x0022: 8, 0x001A: 0, 0x001E: 32, 0x8001: 8}.get(kind, 4)
    if rng.random() < 0.15:
        size = rng.randrange(40)
    if kind in (0x0012, 0x0016) and rng.random() < 0.8:
        family, length = rng.choice(((1, 4), (1, 4), (2, 16)))
        return bytes((0, family)) + rng.randbytes(2 + length)
    if kind in (0x0017, 0x8000) and rng.random() < 0.8:
        return bytes((rng.choice((0, 1, 2, 3)), 0, 0, 0))
    if kind == 0x0019 and rng.random() < 0.8:
        return b"\x11\0\0\0"
    return rng.randbytes(size)


@pytest.mark.parametrize("seed", range(4))
def test_sealed_requests_with_attributes_at_random(busy, seed):
    """Everything behind authentication meets whatever attributes in whatever order."""
    world, clients, _ = busy
    rng = random.Random(seed)
    now = 1.0
    for _ in range(ROUNDS // 4):
        client = rng.choice(clients)
        now += rng.choice((0, 0.1, 1, 20))
        world.sleep(now)
        client.greet(now)
        unsigned = bare(rng.choice(METHODS), *client.credentials())
        for _ in range(rng.randrange(5)):
            kind = rng.choice(KINDS)
            if kind not in (0x0008, 0x001C, 0x8028):
                unsigned += tlv(kind, random_value(rng, kind))
        unsigned = unsigned[:2] + (len(unsigned) - 20).to_bytes(2, "big") + unsigned[4:]
        data = seal(unsigned, client.key, 0x0008 if client.algorithm is None else 0x001C)
        outputs = world.deliver(data, client.path, now)
        check(outputs, client.path)
        assert len(only(outputs, Reply)) == 1
        for grant in only(outputs, Grant):
            assert now < grant.expires_at <= now + 300
    world.sleep(now + 10_000)
    world.tick(now + 10_000)
    assert world.remnants() == {}


def test_sends_with_attributes_at_random(busy):
    world, clients, _ = busy
    rng = random.Random(9)
    for _ in range(ROUNDS):
        client = rng.choice(clients)
        body = b"".join(
            tlv(kind, random_value(rng, kind)) for kind in rng.choices((0x0012, 0x0013, 0x001A, *KINDS), k=3)
        )
        data = struct.pack("!HHI12s", 0x0016, len(body), 0x2112A442, rng.randbytes(12)) + body
        outputs = world.deliver(data, client.path, 1)
        assert not only(outputs, (Reply, Grant, CloseRelay))


def test_afterwards_honest_clients_are_served_as_ever(busy):
    world, clients, seeds = busy
    rng = random.Random(5)
    for _ in range(ROUNDS // 4):
        world.deliver(mutated(rng, rng.choice(seeds)), HERE, 1)
    for client in clients:
        assert only(client.permit(PEER, now=100), Grant)
        assert len(only(client.refresh(0, now=101), CloseRelay)) == 1
