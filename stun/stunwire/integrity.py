"""What seals a message: MESSAGE-INTEGRITY, its SHA-256 sister and FINGERPRINT (RFC 8489 14.5 to 14.7)."""

from __future__ import annotations

import hmac
from enum import Flag
from struct import Struct
from zlib import crc32

from stunwire.attributes import MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256


class Integrity(Flag):
    """Which integrity attribute. `SHA1 | SHA256` asks `Message.encode` for both (RFC 8489 section 9.1.2)."""

    SHA1 = 1
    SHA256 = 2


class Seal:
    """How one integrity attribute is written: its TLV header, its size with that header, its digest."""

    __slots__ = ("algorithm", "size", "tlv_header")

    def __init__(self, attribute_type: int, digest_size: int, algorithm: str) -> None:
        self.tlv_header = TLV.pack(attribute_type, digest_size)
        self.size = TLV.size + digest_size
        self.algorithm = algorithm

    def digest(self, key: bytes, covered: bytes) -> bytes:
        """The HMAC over the message up to the attribute, whose length field counts up to its end."""
        return hmac.digest(key, covered, self.algorithm)


TLV = Struct("!HH")
SHA1_SEAL = Seal(MESSAGE_INTEGRITY.type, 20, "sha1")
SHA256_SEAL = Seal(MESSAGE_INTEGRITY_SHA256.type, 32, "sha256")

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
