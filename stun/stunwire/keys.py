"""Keys and user hashes from credentials (RFC 8489 sections 9.1.1, 9.2.2, 14.4 and 18.5.1)."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from hashlib import md5, sha256

from precis_i18n import get_profile


class PasswordAlgorithm(IntEnum):
    """The IANA registry "STUN Password Algorithms"."""

    MD5 = 0x0001
    SHA256 = 0x0002


class PreparationError(ValueError):
    """A string that the OpaqueString profile refuses; `field` names it, its text is not quoted."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def long_term_key(username: str, realm: str, password: str, algorithm: int = PasswordAlgorithm.MD5) -> bytes:
    """The key of the long-term mechanism: 16 bytes for MD5, 32 for SHA-256 (RFC 8489 section 9.2.2).

    `username` is taken as it stands in USERNAME; realm and password are prepared here. PreparationError for
    one that OpaqueString refuses, ValueError for an algorithm that is neither.
    """
    if algorithm == PasswordAlgorithm.MD5:
        digest = md5
    elif algorithm == PasswordAlgorithm.SHA256:
        digest = sha256
    else:
        raise ValueError(f"password algorithm {algorithm} is neither MD5 (1) nor SHA-256 (2)")
    prepared = f"{username}:{opaque_string(realm, 'realm')}:{opaque_string(password, 'password')}"
    return digest(prepared.encode()).digest()


def short_term_key(password: str) -> bytes:
    """The key of the short-term mechanism: the prepared password (RFC 8489 section 9.1.1)."""
    return opaque_string(password, "password").encode()


def userhash(username: str, realm: str) -> bytes:
    """The 32 bytes of USERHASH (RFC 8489 section 14.4)."""
    return sha256(f"{opaque_string(username, 'username')}:{opaque_string(realm, 'realm')}".encode()).digest()


def opaque_string(text: str, field: str = "string") -> str:
    """`text` under the OpaqueString profile of RFC 8265 section 4.2; `field` names it in PreparationError."""
    # Printable ASCII comes out as it went in; everything but a password in another script ends here.
    if text.isascii() and text.isprintable() and text:
        return text
    return _prepare(text, field)


_PROFILE = get_profile("OpaqueString")


@lru_cache(maxsize=256)
def _prepare(text: str, field: str) -> str:
    try:
        prepared: str = _PROFILE.enforce(text)
    except UnicodeError as error:
        reason = getattr(error, "reason", "not permitted")
        raise PreparationError(field, f"OpaqueString refuses it ({reason})") from None
    return prepared
