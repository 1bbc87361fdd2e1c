"""What seals a message: MESSAGE-INTEGRITY, its SHA-256 sister and FINGERPRINT (RFC 8489 14.5 to 14.7)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag
from hashlib import sha1, sha256
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from stunwire.attributes import MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256

if TYPE_CHECKING:
    from hashlib import _Hash

    Algorithm = Callable[[bytes], _Hash]


class Integrity(Flag):
    """Which integrity attribute. `SHA1 | SHA256` asks `Message.encode` for both (RFC 8489 section 9.1.2)."""

    SHA1 = 1
    SHA256 = 2

    # The name's hash, Enum's own, is computed in Python, and every message looks its seals up.
    __hash__ = object.__hash__


class Seal:
    """How one integrity attribute is written: its TLV header, its size with that header, its digest."""

    __slots__ = ("algorithm", "size", "tlv_header")

    def __init__(self, attribute_type: int, digest_size: int, algorithm: Algorithm) -> None:
        self.tlv_header = TLV.pack(attribute_type, digest_size)
        self.size = TLV.size + digest_size
        self.algorithm = algorithm

    def digest(self, key: bytes, covered: bytes) -> bytes:
        """The HMAC over the message up to the attribute, whose length field counts up to its end."""
        return keyed_digest(key, covered, self.algorithm)


_BLOCK_BYTES = 64
"""Of SHA-1 and SHA-256 alike."""
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def keyed_digest(key: bytes, data: bytes, algorithm: Algorithm) -> bytes:
    """HMAC (RFC 2104) with SHA-1 or SHA-256, in two thirds of the time of `hmac.digest`.

    That one has OpenSSL look the algorithm up for each message. Nothing is remembered of a key: the time it
    takes must not tell whether the key was seen before.
    """
    if len(key) > _BLOCK_BYTES:
        key = algorithm(key).digest()
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner = algorithm(block.translate(_INNER) + data).digest()
    return algorithm(block.translate(_OUTER) + inner).digest()


TLV = Struct("!HH")
SHA1_SEAL = Seal(MESSAGE_INTEGRITY.type, 20, sha1)
SHA256_SEAL = Seal(MESSAGE_INTEGRITY_SHA256.type, 32, sha256)

# The order on the wire: SHA-256 covers SHA-1 (RFC 8489 section 14.6).
SEALS: dict[Integrity, tuple[Seal, ...]] = {
    Integrity.SHA1: (SHA1_SEAL,),
    Integrity.SHA256: (SHA256_SEAL,),
    Integrity.SHA1 | Integrity.SHA256: (SHA1_SEAL, SHA256_SEAL),
}


FINGERPRINT_SIZE = 8
_FINGERPRINT_XOR = 0x5354554E


def fingerprint_of(covered: bytes) -> int:
    """CRC-32 of the message up to FINGERPRINT, XORed with "STUN" (RFC 8489 section 14.7)."""
    return crc32(covered) ^ _FINGERPRINT_XOR
