"""A TURN client by the letter of RFC 8489 section 9.2, and words to read a server's outputs with.

Keys, hashes and seals are computed here with the standard library, so that they vouch for the server's.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from stunwire import (
    CHANNEL_NUMBER,
    DATA,
    ERROR_CODE,
    LIFETIME,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    USERHASH,
    USERNAME,
    XOR_PEER_ADDRESS,
    Attribute,
    Integrity,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithmValue,
    TransportAddress,
)
from turnrelay.core.addresses import ClientAddress, FiveTuple, PeerAddress, ServerAddress, Transport
from turnrelay.core.outputs import Output, Reply

T = TypeVar("T")
Pair = tuple[Attribute[Any], Any]

UDP = 17
MD5, SHA256 = 1, 2
"""Password algorithms (RFC 8489 section 18.5)."""

SERVER = ServerAddress(TransportAddress("192.0.2.1", 3478))


def udp(host: str, port: int) -> FiveTuple:
    return FiveTuple(Transport.UDP, SERVER, ClientAddress(TransportAddress(host, port)))


def tcp(host: str, port: int) -> FiveTuple:
    return FiveTuple(Transport.TCP, SERVER, ClientAddress(TransportAddress(host, port)))


def peer(host: str, port: int) -> PeerAddress:
    return PeerAddress(TransportAddress(host, port))


HERE = udp("198.51.100.15", 40000)
ELSEWHERE = udp("198.51.100.16", 41000)
STREAM = tcp("198.51.100.17", 42000)
PEER = peer("203.0.113.5", 6000)
SAME_HOST = peer("203.0.113.5", 6001)
OTHER_PEER = peer("203.0.113.6", 6000)
PEER6 = peer("2001:db8::5", 6000)


class Deliverer(Protocol):
    """What carries a client's bytes to a server."""

    def deliver(self, data: bytes, path: FiveTuple, now: float) -> list[Output]: ...


class Client:
    """One client on one 5-tuple. It has itself challenged before its first request.

    `algorithm` None is a client of RFC 5389: MD5 key, MESSAGE-INTEGRITY, no algorithm named.
    """

    def __init__(
        self,
        world: Deliverer,
        path: FiveTuple = HERE,
        username: str = "alice",
        password: str = "wonderland",
        algorithm: int | None = None,
        anonymous: bool = False,
    ) -> None:
        self.world = world
        self.path = path
        self.username = username
        self.password = password
        self.algorithm = algorithm
        self.anonymous = anonymous
        self.realm = ""
        self.nonce = ""
        self.offered: tuple[PasswordAlgorithmValue, ...] = ()

    # -- credentials ------------------------------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """RFC 8489 sections 9.2.2 and 18.5.1."""
        secret = f"{self.username}:{self.realm}:{self.password}".encode()
        return (hashlib.sha256 if self.algorithm == SHA256 else hashlib.md5)(secret).digest()

    def greet(self, now: float) -> None:
        """The first request goes without credentials (section 9.2.3.1); the answer is a challenge."""
        challenge = answer(self.world.deliver(bare(Method.ALLOCATE), self.path, now))
        realm, nonce = challenge.get(REALM), challenge.get(NONCE)
        assert realm is not None
        assert nonce is not None
        self.realm, self.nonce = realm, nonce
        self.offered = challenge.get(PASSWORD_ALGORITHMS) or ()

    def credentials(self) -> list[Pair]:
        """What section 9.2.5 wants in a request that answers a challenge."""
        name: Pair = (USERNAME, self.username)
        if self.anonymous:
            name = (USERHASH, hashlib.sha256(f"{self.username}:{self.realm}".encode()).digest())
        pairs = [name, (REALM, self.realm), (NONCE, self.nonce)]
        if self.algorithm is not None:
            pairs.append((PASSWORD_ALGORITHMS, self.offered))
            pairs.append((PASSWORD_ALGORITHM, PasswordAlgorithmValue(self.algorithm)))
        return pairs

    def form(
        self,
        method: int,
        *pairs: Pair,
        transaction_id: bytes | None = None,
        credentials: Sequence[Pair] | None = None,
        integrity: Integrity | None = None,
        fingerprint: bool = False,
    ) -> bytes:
        """A signed request; `credentials` and `integrity` replace what the client would send."""
        message = Message(MessageClass.REQUEST, method, transaction_id)
        for attribute, value in (*pairs, *(self.credentials() if credentials is None else credentials)):
            message.add(attribute, value)
        if integrity is None:
            integrity = Integrity.SHA1 if self.algorithm is None else Integrity.SHA256
        return message.encode(self.key, integrity, fingerprint)

    # -- requests ---------------------------------------------------------------------------------------

    def ask(self, method: int, *pairs: Pair, now: float, **how: Any) -> list[Output]:
        if not self.nonce:
            self.greet(now)
        return self.world.deliver(self.form(method, *pairs, **how), self.path, now)

    def allocate(self, *pairs: Pair, now: float = 0, **how: Any) -> list[Output]:
        return self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), *pairs, now=now, **how)

    def refresh(self, lifetime: int | None = None, *pairs: Pair, now: float = 0, **how: Any) -> list[Output]:
        wish = () if lifetime is None else ((LIFETIME, lifetime),)
        return self.ask(Method.REFRESH, *wish, *pairs, now=now, **how)

    def permit(self, *peers: PeerAddress, now: float = 0, **how: Any) -> list[Output]:
        named = [(XOR_PEER_ADDRESS, address) for address in peers]
        return self.ask(Method.CREATE_PERMISSION, *named, now=now, **how)

    def bind(self, channel: int, address: PeerAddress, now: float = 0, **how: Any) -> list[Output]:
        pairs = (CHANNEL_NUMBER, channel), (XOR_PEER_ADDRESS, address)
        return self.ask(Method.CHANNEL_BIND, *pairs, now=now, **how)

    def send(self, address: PeerAddress, data: bytes, *pairs: Pair, now: float = 0) -> list[Output]:
        indication = form_send((XOR_PEER_ADDRESS, address), (DATA, data), *pairs)
        return self.world.deliver(indication, self.path, now)


# -- bytes ------------------------------------------------------------------------------------------------


def bare(method: int, *pairs: Pair, transaction_id: bytes | None = None) -> bytes:
    """A request of somebody who says nothing about himself."""
    message = Message(MessageClass.REQUEST, method, transaction_id)
    for attribute, value in pairs:
        message.add(attribute, value)
    return message.encode()


def form_send(*pairs: Pair) -> bytes:
    message = Message(MessageClass.INDICATION, Method.SEND)
    for attribute, value in pairs:
        message.add(attribute, value)
    return message.encode()


def tlv(kind: int, value: bytes) -> bytes:
    """One attribute as RFC 8489 section 14 draws it."""
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def tlvs(data: bytes) -> list[tuple[int, bytes]]:
    """(type, value) of each attribute of a whole message; its framing is asserted."""
    length, cookie = struct.unpack("!2xHI", data[:8])
    assert cookie == 0x2112A442
    assert length % 4 == 0
    assert length == len(data) - 20
    found, offset = [], 20
    while offset < len(data):
        kind, size = struct.unpack_from("!HH", data, offset)
        found.append((kind, data[offset + 4 : offset + 4 + size]))
        offset += 4 + size + -size % 4
    assert offset == len(data)
    return found


def seal(unsigned: bytes, key: bytes, kind: int = 0x0008, size: int | None = None) -> bytes:
    """`unsigned` with MESSAGE-INTEGRITY (or -SHA256, 0x001C, cut to `size` bytes) at its end."""
    algorithm, full = ("sha1", 20) if kind == 0x0008 else ("sha256", 32)
    size = full if size is None else size
    length = len(unsigned) - 20 + 4 + size
    covered = unsigned[:2] + struct.pack("!H", length) + unsigned[4:]
    return covered + tlv(kind, hmac.digest(key, covered, algorithm)[:size])


def sealed_with(data: bytes, key: bytes) -> set[str]:
    """Which integrity attributes a message carries that `key` made (RFC 8489 sections 14.5 and 14.6)."""
    good, offset = set(), 20
    for kind, value in tlvs(data):
        if kind in (0x0008, 0x001C):
            algorithm = "sha1" if kind == 0x0008 else "sha256"
            length = offset + 4 + len(value) - 20
            covered = data[:2] + struct.pack("!H", length) + data[4:offset]
            assert hmac.digest(key, covered, algorithm) == value, "an integrity attribute of another key"
            good.add(algorithm)
        offset += 4 + len(value) + -len(value) % 4
    return good


# -- outputs ----------------------------------------------------------------------------------------------


def only(outputs: Iterable[Output], kind: type[T]) -> list[T]:
    """The outputs of one kind, in order."""
    return [output for output in outputs if isinstance(output, kind)]


def reply(outputs: Sequence[Output]) -> Reply:
    """The one reply among the outputs."""
    [found] = only(outputs, Reply)
    return found


def answer(outputs: Sequence[Output]) -> Message:
    """The one reply among the outputs, decoded."""
    return Message.decode(reply(outputs).data)


def accepted(outputs: Sequence[Output]) -> Message:
    """The success response among the outputs."""
    message = answer(outputs)
    assert message.message_class is MessageClass.SUCCESS_RESPONSE, message.get(ERROR_CODE)
    return message


def refused(outputs: Sequence[Output]) -> int:
    """The code of the error response among the outputs."""
    message = answer(outputs)
    assert message.message_class is MessageClass.ERROR_RESPONSE, "the request succeeded"
    error = message.get(ERROR_CODE)
    assert error is not None
    return error.code


def silent(outputs: Sequence[Output]) -> bool:
    """Whether nobody hears of it."""
    return not only(outputs, Reply)
