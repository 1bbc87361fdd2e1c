"""Send indications of every shape, whole and broken, drawn by lot."""

import random
import struct
import zlib

from stunwire import XOR_PEER_ADDRESS, Message, MessageClass, TransportAddress

_COOKIE = bytes.fromhex("2112a442")
PEER, DATA, DONT_FRAGMENT, SOFTWARE, FINGERPRINT, INTEGRITY = 0x0012, 0x0013, 0x001A, 0x8022, 0x8028, 0x0008


class Draft:
    """An indication that is yet to be written for the address of a peer.

    `whole` ones are of the size that they say they are.
    """

    def __init__(self, chance: random.Random, *, whole: bool) -> None:
        self.transaction_id = chance.randbytes(12)
        self.data = chance.randbytes(chance.choice((0, 1, 2, 3, 4, 172, 172, 1200)))
        data, text = (
            (DATA, self.data),
            chance.choice((b"a client", b"", "grün".encode(), b"\xff", b"x" * 764)),
        )
        shapes = [[PEER, data]] * 3 + [
            [data, PEER],
            [PEER, data, (SOFTWARE, text)],
            [(SOFTWARE, text), PEER, (SOFTWARE, text), data],
            [PEER, data, (DONT_FRAGMENT, b"")],
            [PEER, data, (0xC0DE, b"?")],
            [PEER, data, (0x7FFF, b"?")],
            [PEER, PEER, data],
            [PEER, data, (DATA, b"second")],
            [PEER],
            [data],
            [PEER, data, (INTEGRITY, bytes(20))],
            [PEER, (INTEGRITY, bytes(20)), data],
            [(PEER, b"\0\3" + bytes(6)), data],
            [(PEER, b"\0\1" + bytes(18)), data],
            [(PEER, b"\0\2" + bytes(6)), data],
            [(PEER, b"\0\1"), data],
            [data, (PEER, b"")],
        ]
        is_plain = chance.random() < 0.6
        self.shape = shapes[0] if is_plain else chance.choice(shapes)
        self.seal = None if is_plain else chance.choice((None, None, "good", "good", "bad", "first"))
        self.padding = chance.choice((0, 0, 0xFF))
        self.first_byte = 0 if is_plain else chance.choice((0, 0, 0, 7))
        self.type = 0x0016 if is_plain else chance.choice((0x0016,) * 12 + (0x0017, 0x0006, 0x0116))
        self.flip = None if whole or chance.random() < 0.8 else (chance.random(), 1 << chance.randrange(8))
        self.cut = 0 if whole or chance.random() < 0.9 else chance.choice((1, 2, 4, 8, -1, -4))

    def write(self, peer: TransportAddress) -> bytes:
        body, ports = b"", []
        for attribute in self.shape:
            kind, value = attribute if isinstance(attribute, tuple) else (PEER, self._peer_value(peer))
            ports.append(20 + len(body) + 6 if attribute is PEER else 0)
            body += struct.pack("!HH", kind, len(value)) + value + bytes([self.padding]) * (-len(value) % 4)
        if self.seal == "first":
            # Right for what stands before it, and in the wrong place.
            crc = zlib.crc32(self._header(len(body) + 8)) ^ 0x5354554E
            body = struct.pack("!HHI", FINGERPRINT, 4, crc) + body
        if self.seal in ("good", "bad"):
            crc = zlib.crc32(self._header(len(body) + 8) + body) ^ 0x5354554E ^ (self.seal == "bad")
            body += struct.pack("!HHI", FINGERPRINT, 4, crc)
        message = bytearray(self._header(len(body)) + body)
        if self.flip is not None:
            where, bit = int(self.flip[0] * len(message)), self.flip[1]
            # Another port is another socket somewhere, or none.
            if not any(port <= where < port + 2 for port in ports if port):
                message[where] ^= bit
        if self.cut < 0:
            message += bytes(-self.cut)
        return bytes(message[: len(message) - max(self.cut, 0)])

    def _header(self, length: int) -> bytes:
        return struct.pack("!HH", self.type, length) + _COOKIE + self.transaction_id

    def _peer_value(self, peer: TransportAddress) -> bytes:
        message = Message(MessageClass.INDICATION, 0, self.transaction_id).add(XOR_PEER_ADDRESS, peer)
        value = bytearray(message.encode()[24:])
        value[0] = self.first_byte
        return bytes(value)
