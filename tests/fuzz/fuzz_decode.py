"""Random bytes against every decoder of stunwire: nothing but DecodeError may come out.

    python tests/fuzz/fuzz_decode.py --count 5000000 --seed 1

Inputs are mutations of valid messages, messages with a sound header around random attributes (so that the
values are reached), and noise. An accepted message must also be one that can be sent again and read back the
same. The exit status is 1 at the first input that breaks a rule; its seed, number and bytes are printed.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stunwire import (
    ATTRIBUTES,
    FINGERPRINT,
    MAGIC_COOKIE,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    DecodeError,
    Integrity,
    Message,
    MessageClass,
    Method,
    Rfc4571Framer,
    StreamFramer,
    TransportAddress,
    classify,
    decode_channel_data,
    encode_channel_data,
    frame_rfc4571,
    is_channel_data,
    is_stun,
)
from stunwire import attributes as table
from stunwire.integrity import fingerprint_of

VECTORS = Path(__file__).parents[1] / "vectors" / "stun.json"
SEALS = {attribute.type for attribute in (MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT)}
KEY = b"key"


def corpus() -> list[bytes]:
    """Valid inputs to start from: the published vectors, and one message of each kind that a relay sees."""
    vectors = json.loads(VECTORS.read_text())
    found = [bytes.fromhex(entry["hex"]) for entry in vectors["rfc5769"].values() if isinstance(entry, dict)]
    found.append(bytes.fromhex(vectors["rfc8489_B1_errata6268"]["hex"]))
    peer = TransportAddress("192.0.2.7", 4000)
    peer6 = TransportAddress("2001:db8::7", 4000)
    allocate = Message(MessageClass.REQUEST, Method.ALLOCATE, bytes(12)).add(table.REQUESTED_TRANSPORT, 17)
    allocate.add(table.EVEN_PORT, True).add(table.DONT_FRAGMENT, True).add(table.ADDITIONAL_ADDRESS_FAMILY, 2)
    allocate.add(table.USERNAME, "alice").add(table.REALM, "example.org").add(table.NONCE, "obMatJos2AAAB0")
    found += [allocate.encode(KEY, integrity, fingerprint=True) for integrity in Integrity]
    permit = Message(MessageClass.REQUEST, Method.CREATE_PERMISSION, bytes(12))
    found.append(permit.add(table.XOR_PEER_ADDRESS, peer).add(table.XOR_PEER_ADDRESS, peer6).encode(KEY))
    send = Message(MessageClass.INDICATION, Method.SEND, bytes(12)).add(table.XOR_PEER_ADDRESS, peer)
    found.append(send.add(table.DATA, b"hello").encode())
    found.append(Message.error_to(allocate, 420).add(table.UNKNOWN_ATTRIBUTES, (1, 2, 3)).encode())
    found += [encode_channel_data(0x4001, b"hello", pad=True), encode_channel_data(0x4FFF, bytes(40))]
    found.append(frame_rfc4571(send.encode()))
    return found


INTERESTING = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 19, 20, 21, 31, 32, 33, 36, 0x7F, 0x80, 0xFF)
TYPES = (*ATTRIBUTES, 0x0000, 0x0002, 0x7FFF, 0x802D, 0xC057, 0xFFFF)


class Inputs:
    """An endless stream of inputs that a seed reproduces."""

    def __init__(self, seed: int) -> None:
        # Not secrets: the same seed must give the same inputs.
        self.random = random.Random(seed)
        self.corpus = corpus()
        self.kinds: tuple[Callable[[], bytes], ...] = (
            self.mutation,
            self.mutation,
            self.attributes,
            self.attributes,
            self.attributes,
            self.splice,
            self.noise,
        )

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.random.choice(self.kinds)()

    def noise(self) -> bytes:
        return self.random.randbytes(self.random.choice(INTERESTING))

    def mutation(self) -> bytes:
        """A valid input with some bytes changed, cut, repeated or put in."""
        rand = self.random
        data = bytearray(rand.choice(self.corpus))
        for _ in range(rand.choice((1, 1, 1, 2, 3, 8))):
            place = rand.randrange(len(data) + 1)
            match rand.randrange(6):
                case 0:
                    data[place : place + 1] = bytes((rand.choice(INTERESTING),))
                case 1 if place < len(data):
                    data[place] ^= 1 << rand.randrange(8)
                case 2:
                    del data[place:]
                case 3:
                    del data[place : place + rand.choice((1, 2, 4, 8))]
                case 4:
                    data[place:place] = rand.randbytes(rand.choice((1, 2, 4, 8)))
                case _:
                    data[place:place] = data[place : place + rand.choice((4, 8, 12, 24))]
        return self.mend(data) if rand.random() < 0.7 else bytes(data)

    def splice(self) -> bytes:
        """The beginning of one input and the end of another."""
        rand = self.random
        first, second = rand.choice(self.corpus), rand.choice(self.corpus)
        data = first[: 4 * rand.randrange(len(first) // 4)] + second[4 * rand.randrange(len(second) // 4) :]
        return self.mend(bytearray(data))

    def attributes(self) -> bytes:
        """A sound header, then attributes of known types with random values of likely and unlikely sizes."""
        rand = self.random
        data = bytearray(struct.pack("!HHI", rand.getrandbits(14), 0, MAGIC_COOKIE) + rand.randbytes(12))
        for _ in range(rand.choice((1, 1, 2, 3, 5, 66 if rand.random() < 0.01 else 1))):
            size = rand.choice((0, 1, 2, 4, 4, 4, 5, 8, 8, 8, 16, 20, 20, 32, 40))
            if rand.random() < 0.005:
                size = rand.choice((255, 256, 508, 509, 763, 764))
            value = bytearray(rand.randbytes(size))
            if size and rand.random() < 0.7:  # addresses and codes depend on their first bytes
                value[: min(size, 4)] = bytes((0, rand.choice((1, 1, 2, 3)), rand.choice((3, 4, 6)), 1))[
                    :size
                ]
            if size and rand.random() < 0.2:
                value = bytearray(b"a" * size)
            claimed = size if rand.random() < 0.98 else rand.choice(INTERESTING)
            data += struct.pack("!HH", rand.choice(TYPES), claimed) + value + bytes(-size & 3)
        return self.mend(data)

    def mend(self, data: bytearray) -> bytes:
        """Make the header's length true, and now and then end with the right FINGERPRINT."""
        del data[len(data) & ~3 :]
        if len(data) < 20:
            return bytes(data)
        fingerprint = self.random.random() < 0.2
        data[2:4] = (len(data) - 20 + 8 * fingerprint & 0xFFFF).to_bytes(2, "big")
        if fingerprint:
            data += struct.pack("!HHI", FINGERPRINT.type, 4, fingerprint_of(bytes(data)))
        return bytes(data)


@dataclass
class Tally:
    """What came out, to see that the fuzzer reaches what it should."""

    executions: int = 0
    messages: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def check(data: bytes, number: int, tally: Tally) -> None:
    """One input through every decoder. AssertionError, or whatever a decoder let out, is a bug."""
    try:
        check_message(Message.decode((data, bytearray(data), memoryview(data))[number % 3]), data, number)
        tally.messages += 1
    except DecodeError as error:
        tally.refused[error.place] += 1
    try:
        channel, payload = decode_channel_data(data)
        assert encode_channel_data(channel, payload) == data[: 4 + len(payload)]
        assert is_channel_data(data)
    except DecodeError:
        pass
    if data:
        classify(data[0])
    is_stun(data)
    check_framer(StreamFramer, data, number)
    check_framer(Rfc4571Framer, data, number)


def check_message(message: Message, data: bytes, number: int) -> None:
    assert is_stun(data)
    for integrity in (Integrity.SHA1, Integrity.SHA256):
        assert not message.verify(b"a key that sealed nothing here", integrity)
    repr(message)
    if number % 4:
        return
    # USERNAME is received longer than it may be sent (RFC 8489 section 14.3): the one that cannot return.
    if any(len(name.encode()) > 508 for name in message.get_all(table.USERNAME)):
        return
    content = [pair for pair in message.attributes if pair[0] not in SEALS]
    again = Message.decode(message.encode(KEY, fingerprint=True))
    assert again.attributes[:-2] == content
    assert again.verify(KEY, Integrity.SHA1)
    assert again.unknown_required == message.unknown_required


def check_framer(kind: type[StreamFramer | Rfc4571Framer], data: bytes, number: int) -> None:
    def frames(pieces: tuple[bytes, ...]) -> tuple[list[bytes], bool]:
        framer, found = kind(), []
        try:
            for piece in (*pieces, b""):
                found += framer.feed(piece)
        except DecodeError:
            return found, True
        return found, False

    cut = number % (len(data) + 1)
    assert frames((data,)) == frames((data[:cut], data[cut:]))


def run(count: int, seed: int) -> Tally:
    """`count` inputs of `seed`. Raises what a decoder let out, with the input as a note."""
    tally = Tally()
    for number, data in enumerate(Inputs(seed)):
        if number == count:
            break
        try:
            check(data, number, tally)
        except Exception as error:
            error.add_note(f"seed {seed}, input {number}: {data.hex()}")
            raise
        tally.executions += 1
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same inputs")
    options = parser.parse_args()
    began = time.perf_counter()
    tally = run(options.count, options.seed)
    seconds = time.perf_counter() - began
    print(f"{tally.executions} inputs in {seconds:.0f} s, {tally.executions / seconds:.0f} executions/s")
    print(f"{tally.messages} were messages; refused, by place:")
    for place, refused in tally.refused.most_common():
        print(f"{refused:10} {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
