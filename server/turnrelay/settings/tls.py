"""The certificate of the TLS listener, as far as it can be judged before a client connects."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What of the certificate matters here."""

    not_before: datetime
    not_after: datetime
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    names: tuple[str, ...]
    """The DNS names it is for, wildcards left out."""
    wildcards: tuple[str, ...]
    """Those with `*` for their first label."""
    addresses: tuple[str, ...]
    """The IP addresses it is for."""


def read_certificate(path: Path) -> Certificate:
    """The first certificate of a PEM chain; OSError or ValueError when there is none to read."""
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
        public_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no certificate that can be read (PEM: -----BEGIN CERTIFICATE-----)") from None
    names, addresses = _subjects(certificate)
    return Certificate(
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        public_key,
        tuple(name for name in names if not name.startswith("*")),
        tuple(name for name in names if name.startswith("*")),
        addresses,
    )


def _subjects(certificate: x509.Certificate) -> tuple[list[str], tuple[str, ...]]:
    """DNS names and IP addresses."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [], ()
    addresses = alternatives.get_values_for_type(x509.IPAddress)
    return alternatives.get_values_for_type(x509.DNSName), tuple(map(str, addresses))


def read_public_key(path: Path) -> bytes:
    """The public half of a PEM private key, as in `Certificate`; OSError or ValueError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except TypeError:  # what cryptography raises for a missing password
        raise ValueError("is encrypted; the relay has nobody to ask for the password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no private key that can be read (PEM: -----BEGIN PRIVATE KEY-----)") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
