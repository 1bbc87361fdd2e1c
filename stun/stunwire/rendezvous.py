"""The rendezvous protocol: what goes over the WebSocket between an SDK and a relay's /v1/rendezvous.

Each WebSocket message is binary and holds one frame: a byte that names it, and its fields. Numbers are
big-endian. Keys are Ed25519 public keys, signatures Ed25519 signatures (RFC 8032); neither is computed here.

    server: CHALLENGE  nonce (32)
    client: REGISTER   key (32)  signature (64) over `registration_transcript`
    server: REGISTERED device (8)

    client: TO         number (4)  key (32)  message
    server: RESULT     number (4)  result (1)     one for each TO, in their order
    server: FROM       key (32)  message
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol

from stunwire.errors import DecodeError

PATH = "/v1/rendezvous"
SUBPROTOCOL = "turnrelay.rendezvous.1"
"""Names this version of the protocol; a WebSocket without it is refused."""

KEY_BYTES = 32
SIGNATURE_BYTES = 64
NONCE_BYTES = 32
DEVICE_BYTES = 8
MAX_MESSAGE_BYTES = 16 * 1024
"""The longest message from one key to another."""
MAX_NUMBER = 2**32 - 1
DEVICES_PER_KEY = 4
"""So many connections of one key get its messages, each of them all; the next takes the oldest's place."""
HANDSHAKE_SECONDS = 10.0
"""How long the server waits for REGISTER."""
HEARTBEAT_SECONDS = 30.0
"""How often each side asks whether the other is still there (a WebSocket ping)."""

_TRANSCRIPT = b"turnrelay rendezvous 1 registration\0"
_NUMBER = struct.Struct(">I")


class Result(IntEnum):
    """What became of one TO."""

    DELIVERED = 0
    """It is on its way to each device of the key that is connected."""
    ABSENT = 1
    """No device of the key is connected."""
    THROTTLED = 2
    """The sender sends too much: again later."""
    CONGESTED = 3
    """The devices of the key do not read what they have got: again later."""


class CloseCode(IntEnum):
    """Why the server ended a WebSocket (RFC 6455 section 7.4.2 leaves 4000 to 4999 to applications)."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 4400
    """A frame that cannot be understood, or not at this point."""
    BAD_SIGNATURE = 4401
    """The signature does not prove the key, for this challenge at this host."""
    HANDSHAKE_TIMEOUT = 4408
    REPLACED = 4409
    """Newer devices of the same key took this one's place."""


class Frame(Protocol):
    """One WebSocket message."""

    def encode(self) -> bytes:
        """Its bytes."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's first frame: random bytes to sign."""

    TYPE: ClassVar[int] = 0x01
    nonce: bytes

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + self.nonce


@dataclass(frozen=True, slots=True)
class Registered:
    """The key is proved; from here on its messages come here. `device` names the connection."""

    TYPE: ClassVar[int] = 0x02
    device: bytes

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + self.device


@dataclass(frozen=True, slots=True)
class From:
    """A message from the connection of another key."""

    TYPE: ClassVar[int] = 0x03
    key: bytes
    message: bytes

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + self.key + self.message


@dataclass(frozen=True, slots=True)
class ResultOf:
    """What became of the TO with this number."""

    TYPE: ClassVar[int] = 0x04
    number: int
    result: Result

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + _NUMBER.pack(self.number) + bytes((self.result,))


@dataclass(frozen=True, slots=True)
class Register:
    """The answer to the challenge."""

    TYPE: ClassVar[int] = 0x11
    key: bytes
    signature: bytes

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + self.key + self.signature


@dataclass(frozen=True, slots=True)
class To:
    """A message to a key. The number is the sender's own, to know the result by."""

    TYPE: ClassVar[int] = 0x12
    number: int
    key: bytes
    message: bytes

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + _NUMBER.pack(self.number) + self.key + self.message


ServerFrame = Challenge | Registered | From | ResultOf
ClientFrame = Register | To

MAX_FRAME_BYTES = 1 + _NUMBER.size + KEY_BYTES + MAX_MESSAGE_BYTES


def registration_transcript(nonce: bytes, authority: str) -> bytes:
    """What a client signs to register its key.

    `authority` is the host, and the port if it is not the scheme's own, that the client connects to, as the
    Host header has it: so a challenge that somebody else's server passes on is answered for that server, and
    the answer is worth nothing here.
    """
    name = authority.lower().encode()
    return _TRANSCRIPT + nonce + struct.pack(">H", len(name)) + name


def decode_from_server(data: bytes) -> ServerFrame:
    """A frame that a client received; DecodeError if it is none."""
    kind, body = _split(data)
    match kind:
        case Challenge.TYPE:
            return Challenge(_whole(body, NONCE_BYTES, "CHALLENGE"))
        case Registered.TYPE:
            return Registered(_whole(body, DEVICE_BYTES, "REGISTERED"))
        case From.TYPE:
            return From(body[:KEY_BYTES], _message(body, KEY_BYTES, "FROM"))
        case ResultOf.TYPE:
            body = _whole(body, _NUMBER.size + 1, "RESULT")
            try:
                result = Result(body[-1])
            except ValueError:
                raise DecodeError("RESULT", f"there is no result {body[-1]}") from None
            return ResultOf(_NUMBER.unpack_from(body)[0], result)
        case _:
            raise DecodeError("frame", f"a server sends none of type {kind}")


def decode_from_client(data: bytes) -> ClientFrame:
    """A frame that a server received; DecodeError if it is none."""
    kind, body = _split(data)
    match kind:
        case Register.TYPE:
            body = _whole(body, KEY_BYTES + SIGNATURE_BYTES, "REGISTER")
            return Register(body[:KEY_BYTES], body[KEY_BYTES:])
        case To.TYPE:
            message = _message(body, _NUMBER.size + KEY_BYTES, "TO")
            key = body[_NUMBER.size : _NUMBER.size + KEY_BYTES]
            return To(_NUMBER.unpack_from(body)[0], key, message)
        case _:
            raise DecodeError("frame", f"a client sends none of type {kind}")


def _split(data: bytes) -> tuple[int, bytes]:
    if not data:
        raise DecodeError("frame", "is empty")
    return data[0], data[1:]


def _whole(body: bytes, size: int, name: str) -> bytes:
    if len(body) != size:
        raise DecodeError(name, f"has {len(body)} bytes, not {size}")
    return body


def _message(body: bytes, offset: int, name: str) -> bytes:
    if not offset < len(body) <= offset + MAX_MESSAGE_BYTES:
        raise DecodeError(name, f"has {len(body)} bytes, not {offset + 1} to {offset + MAX_MESSAGE_BYTES}")
    return body[offset:]
