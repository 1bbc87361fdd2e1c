"""Security features in the nonce (RFC 8489 section 9.2: "nonce cookie")."""

from __future__ import annotations

from base64 import b64decode, b64encode
from enum import IntFlag


class SecurityFeatures(IntFlag):
    """The IANA registry "STUN Security Features".

    The prose of RFC 8489 section 18.1 counts bits from the left. Verified erratum 6290 and the vector of
    appendix B.1 ("AAAC" announces username anonymity, bit 1) count from the right, and they decide.
    """

    NONE = 0
    PASSWORD_ALGORITHMS = 1 << 0
    USERNAME_ANONYMITY = 1 << 1


_COOKIE = "obMatJos2"
_SIZE = len(_COOKIE) + 4


def nonce_cookie(features: SecurityFeatures) -> str:
    """The 13 characters a nonce begins with to announce `features`."""
    return _COOKIE + b64encode(int(features).to_bytes(3, "big")).decode()


def security_features(nonce: str) -> SecurityFeatures | None:
    """The features a nonce announces, unassigned bits included; None for a nonce without cookie."""
    if len(nonce) < _SIZE or not nonce.startswith(_COOKIE):
        return None
    try:
        bits = b64decode(nonce[len(_COOKIE) : _SIZE], validate=True)
    except ValueError:
        return None
    # "AA==" is base64 of one byte: not 24 bits, so not announced by this document.
    return SecurityFeatures(int.from_bytes(bits, "big")) if len(bits) == 3 else None
