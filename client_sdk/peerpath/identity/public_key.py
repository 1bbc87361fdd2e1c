"""PublicKey: the name of a peer. Whoever holds the private half is that peer."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_BYTES = 32
_CHECKSUM_BYTES = 3
_PREFIX = "pp"
_TEXT_CHARACTERS = 56  # of base32, for 35 bytes: it comes out even, without padding
_FINGERPRINT_GROUPS = 6
_GROUP_DIGITS = 5


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key (RFC 8032): 32 bytes. ValueError for another length.

    As text it is `pp` and 56 characters of lower-case base32, the last of which are a checksum: a key that
    was mistyped or cut short is refused when it is read, not when nobody answers.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ValueError(f"an Ed25519 public key has {KEY_BYTES} bytes, this one {len(self.raw)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `str` made; ValueError that says what is wrong with it."""
        plain = text.strip().lower()
        if not plain.startswith(_PREFIX) or len(plain) != len(_PREFIX) + _TEXT_CHARACTERS:
            raise ValueError(
                f"{text!r} is no public key: one is {_PREFIX!r} and {_TEXT_CHARACTERS} letters and digits, "
                "as `peerpath identity show` prints it"
            )
        try:
            data = base64.b32decode(plain[len(_PREFIX) :].upper())
        except ValueError:
            raise ValueError(f"{text!r} is no public key: only a to z and 2 to 7 occur in one") from None
        raw, checksum = data[:KEY_BYTES], data[KEY_BYTES:]
        if checksum != _checksum(raw):
            raise ValueError(f"{text!r} is no public key: its checksum is wrong, so a character is, too")
        return cls(raw)

    def __str__(self) -> str:
        return _PREFIX + base64.b32encode(self.raw + _checksum(self.raw)).decode().lower()

    def __repr__(self) -> str:
        return f"PublicKey.parse({str(self)!r})"

    @property
    def fingerprint(self) -> str:
        """Six groups of five digits, 99.6 bits of a hash: for two people to read to each other."""
        number = int.from_bytes(hashlib.sha512(b"peerpath fingerprint\0" + self.raw).digest())
        groups = []
        for _ in range(_FINGERPRINT_GROUPS):
            number, group = divmod(number, 10**_GROUP_DIGITS)
            groups.append(f"{group:0{_GROUP_DIGITS}}")
        return " ".join(groups)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder of the private key signed exactly this message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def _checksum(raw: bytes) -> bytes:
    return hashlib.sha256(b"peerpath public key\0" + raw).digest()[:_CHECKSUM_BYTES]
