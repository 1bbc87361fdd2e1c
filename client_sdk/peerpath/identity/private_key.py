"""Identity: the private half of a key, and the file that keeps it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from peerpath.errors import PeerpathError
from peerpath.identity.public_key import PublicKey

_OTHERS = 0o077


class IdentityError(PeerpathError):
    """A key file that cannot be used: the message names it and the mend."""


class Identity:
    """An Ed25519 private key (RFC 8032): who we are to our peers.

    identity = Identity.generate()
    identity.save("alice.key")
    print(identity.public_key)
    """

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self.private_key = private_key
        raw = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key = PublicKey(raw)

    @classmethod
    def generate(cls) -> Self:
        """A new one, from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The identity in a PEM file that `save` or `openssl genpkey -algorithm ed25519` wrote.

        IdentityError if the file cannot be read, is no Ed25519 key, or other users may read or change it.
        """
        file = Path(path)
        try:
            descriptor = os.open(file, os.O_RDONLY)
            with os.fdopen(descriptor, "rb") as opened:
                # Of the file that is open, not of whatever the name means by now.
                _require_private(file, os.fstat(opened.fileno()).st_mode)
                pem = opened.read()
        except OSError as error:
            raise IdentityError(
                f"{file}: {error.strerror}; make an identity with: peerpath identity new {file}"
            ) from error
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise IdentityError(f"{file}: is no private key in PEM without a password ({error})") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise IdentityError(f"{file}: is a private key, but not an Ed25519 one")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a PEM file with mode 0600; IdentityError if there is one: a key is never overwritten."""
        file = Path(path)
        pem = self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise IdentityError(f"{file}: exists and is not overwritten; choose another name") from None
        except OSError as error:
            raise IdentityError(f"{file}: {error.strerror}") from error
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(pem)
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            file.unlink(missing_ok=True)  # half a key helps nobody
            raise IdentityError(f"{file}: {error.strerror}") from error

    def sign(self, message: bytes) -> bytes:
        """64 bytes that `PublicKey.verify` accepts for this message."""
        return self.private_key.sign(message)

    def __repr__(self) -> str:
        return f"<Identity {self.public_key}>"


def _require_private(file: Path, mode: int) -> None:
    if sys.platform != "win32" and mode & _OTHERS:
        raise IdentityError(
            f"{file}: has mode {mode & 0o777:04o}, so other users may read or change the key; "
            f"mend it with: chmod 600 {file}"
        )
