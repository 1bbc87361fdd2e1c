"""The certificate that an identity shows in the handshake: self-signed, short-lived, good for its key alone.

Nobody vouches for a peer but the key that was dialed, so a certificate is no more than the form in which TLS
carries that key. It is made anew for every link and is valid from a day before to a week after: the
clocks of both sides may differ by a day, and what somebody recorded is worth nothing later.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from peerpath.errors import PeerpathError
from peerpath.identity import Identity, PublicKey

VALID_BEFORE = timedelta(days=1)
VALID_AFTER = timedelta(days=7)
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peerpath")])


class CertificateRefused(PeerpathError):
    """A peer's certificate is not accepted.

    `told` is what the peer gets to know, which names no key: the peer may be anybody. `expired` says that
    the dates are the reason.
    """

    def __init__(self, reason: str, told: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.told = told
        self.expired = expired


def make_certificate(identity: Identity, at: datetime) -> x509.Certificate:
    """A certificate of the identity's key, signed with it (RFC 8410), valid around `at`."""
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(identity.private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - VALID_BEFORE)
        .not_valid_after(at + VALID_AFTER)
        .sign(identity.private_key, algorithm=None)
    )


def check_certificate(certificate: x509.Certificate, peer: PublicKey, at: datetime) -> None:
    """CertificateRefused unless it is of the key `peer` and valid at `at`.

    The signature inside is not looked at: it could only have been made by the key itself, and the handshake
    proves the possession of that key afresh (RFC 8446 section 4.4.3).
    """
    shown = _public_key(certificate)
    if shown != peer:
        raise CertificateRefused(
            f"the peer proved to be {shown}, but {peer} was expected: check that this is the key of the "
            "right person, and if it is, somebody else answers in their place",
            "this side expects another key than yours: it may know an older one, or have meant somebody else",
        )
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= at <= end:
        word = "not valid before" if at < begin else "valid until"
        date = begin if at < begin else end
        clocks = f"{word} {date:%Y-%m-%d %H:%M}, and here it is {at:%Y-%m-%d %H:%M} (UTC)"
        raise CertificateRefused(
            f"the peer's certificate is {clocks}: one of the two clocks is wrong; set both right",
            f"your certificate is {clocks}: one of the two clocks is wrong; set both right",
            expired=True,
        )


def _public_key(certificate: x509.Certificate) -> PublicKey:
    # An algorithm or a key that cryptography does not know is no reason to fail in another way.
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateRefused(
            "the peer's certificate is not of an Ed25519 key, so it is no peerpath",
            "your certificate is not of an Ed25519 key",
        )
    return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
