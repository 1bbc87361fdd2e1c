"""The mover's own reading of Send indications beside stunwire's and the core's, under sanitizers."""

import random
import struct
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
from stunwire import (
    DATA,
    DONT_FRAGMENT,
    FINGERPRINT,
    SOFTWARE,
    XOR_PEER_ADDRESS,
    DecodeError,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from support.requirements import require_program
from support.send_drafts import Draft
from turnrelay.core.addresses import PeerAddress
from turnrelay.core.understood import not_understood
from turnrelay.relay.send_indications import forward_send, peer_key

SOURCE = Path(__file__).with_name("indications.c")
PLAIN = {attribute.type for attribute in (XOR_PEER_ADDRESS, DATA, SOFTWARE, FINGERPRINT)}
COUNT = 20_000
Sending = tuple[TransportAddress, bytes]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("fuzz") / "indications"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [require_program("cc"), "-g", "-O1", "-Wno-unused-function", *sanitizers]
    subprocess.run([*command, "-o", made, SOURCE, "-lm"], check=True)
    return made


def run(program: Path, messages: list[bytes], *arguments: str) -> list[str]:
    """A line for each message."""
    given = b"".join(struct.pack("!H", len(message)) + message for message in messages)
    done = subprocess.run([program, *arguments], input=given, capture_output=True, timeout=120)
    assert not done.returncode, done.stderr.decode()
    return done.stdout.decode().splitlines()


def meaning(data: bytes) -> tuple[Sending | None, bool]:
    """What the core takes an indication for, and whether it is a plain one, which need not come to it."""
    try:
        message = Message.decode(data)
    except DecodeError:
        return None, False
    peer, content = message.get(XOR_PEER_ADDRESS), message.get(DATA)
    is_send = message.message_class is MessageClass.INDICATION and message.method == Method.SEND
    if not is_send or peer is None or content is None or not_understood(message) or DONT_FRAGMENT in message:
        return None, False
    kinds = [kind for kind, _ in message.attributes]
    is_plain = PLAIN.issuperset(kinds) and len(set(kinds)) == len(kinds)
    return (peer, content), is_plain and (message.get(SOFTWARE) or "").isascii()


def in_python(message: bytes, sending: Sending | None) -> Sending | None:
    """What the Python side forwards to a peer that was admitted."""
    peer = PeerAddress(sending[0] if sending else TransportAddress("192.0.2.1", 1))
    caught: list[bytes] = []

    class Catcher:
        def forward(self, data: memoryview, now: float) -> None:
            caught.append(bytes(data))

    room = memoryview(message + b"\xaa" * 50)
    if not forward_send(room, len(message), {peer_key(peer): Catcher()}, 0.0):
        assert not caught
        return None
    return peer, caught[0]


def mutated(chance: random.Random, data: bytes) -> bytes:
    message = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 8))):
        if not message:
            break
        where = (
            chance.randrange(min(len(message), 60))
            if chance.random() < 0.8
            else chance.randrange(len(message))
        )
        match chance.randrange(5):
            case 0:
                message[where] ^= 1 << chance.randrange(8)
            case 1:
                message[where] = chance.randrange(256)
            case 2:
                del message[where : where + chance.choice((1, 2, 4, 8))]
            case 3:
                message[where:where] = chance.randbytes(chance.choice((1, 4, 8)))
            case 4:
                message[2:4] = struct.pack("!H", max(len(message) - 20, 0))
    return bytes(message)


def some_peer(chance: random.Random) -> TransportAddress:
    return TransportAddress(
        chance.choice(("192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "::")), chance.randrange(65536)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_moved_is_what_the_core_would_send(program, seed):
    chance = random.Random(seed)
    messages = []
    for _ in range(COUNT):
        message = Draft(chance, whole=False).write(some_peer(chance))
        messages.append(mutated(chance, message) if chance.random() < 0.7 else message)
    moved = plain = in_both = 0
    for message, line in zip(messages, run(program, messages), strict=True):
        sending, is_plain = meaning(message)
        if line != "-":
            host, port, content = line.split(" ")
            assert (TransportAddress(host, int(port)), bytes.fromhex(content)) == sending
            moved += 1
        assert (line != "-") >= is_plain, message.hex()
        plain += is_plain
        forwarded = in_python(message, sending)
        assert forwarded in (None, sending)
        in_both += forwarded is not None
    # Worth its time only while it reaches both sides.
    assert COUNT / 8 < plain <= moved < COUNT / 2
    assert in_both > COUNT / 10


def test_data_indications_say_what_came_and_from_where(program):
    chance = random.Random(3)
    expected, orders = [], []
    for size in (*range(20), 172, 1200, 9000, 60_000):
        for host in ("192.0.2.7", "2001:db8::7"):
            peer, data = TransportAddress(host, chance.randrange(65536)), chance.randbytes(size)
            message = Message(MessageClass.INDICATION, Method.DATA, chance.randbytes(12))
            expected.append(message.add(XOR_PEER_ADDRESS, peer).add(DATA, data).encode().hex())
            packed = ip_address(host).packed
            head = message.transaction_id + struct.pack("!HB", peer.port, len(packed))
            orders.append(head + packed + data)
    assert run(program, orders, "write") == expected
