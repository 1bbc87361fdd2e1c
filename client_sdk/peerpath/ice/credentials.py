"""The short-term credentials of an ICE session (RFC 8445 section 5.3)."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from random import Random

_ICE_CHARS = string.ascii_letters + string.digits + "+/"
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")

# The RFC asks for 24 and 128 bits of randomness at least: 4 and 22 characters of 6 bits. The longer fragment
# keeps the sessions of one process apart.
_UFRAG_LENGTH = 8
_PASSWORD_LENGTH = 24


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name fragment and password. ValueError for what is not made of 4 and 22 ice-chars or more."""

    ufrag: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _UFRAG.fullmatch(self.ufrag):
            raise ValueError("an ICE user name fragment is 4 to 256 letters, digits, + and /")
        if not _PASSWORD.fullmatch(self.password):
            raise ValueError("an ICE password is 22 to 256 letters, digits, + and /")

    @classmethod
    def generate(cls, random: Random) -> Credentials:
        """Fresh ones; `random` is a SystemRandom anywhere but in a simulation."""
        return cls(
            "".join(random.choices(_ICE_CHARS, k=_UFRAG_LENGTH)),
            "".join(random.choices(_ICE_CHARS, k=_PASSWORD_LENGTH)),
        )

    @property
    def key(self) -> bytes:
        """The HMAC key: ice-chars are what OpaqueString leaves as they are (RFC 8489 section 9.1.1)."""
        return self.password.encode("ascii")
