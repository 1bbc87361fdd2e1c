"""Key agreement with an identity: an Ed25519 key as the X25519 key of the same secret.

The birational map of RFC 7748 section 4.1, with the results of libsodium's
crypto_sign_ed25519_pk_to_curve25519 and crypto_sign_ed25519_sk_to_curve25519.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from peerpath.identity import Identity, PublicKey

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_SIGN_BIT = 1 << 255


def agreement_public_key(key: PublicKey) -> X25519PublicKey:
    """The X25519 form of a public key; ValueError if its bytes are no point that a secret can have."""
    y = int.from_bytes(key.raw, "little") & ~_SIGN_BIT
    # RFC 8032 section 5.1.3: x^2 = (y^2 - 1) / (d y^2 + 1) has a root exactly if y is on the curve. For x = 0
    # the point has order 1 or 2; the other small orders agree on zero, which the exchange refuses.
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if y >= _P or pow(x_squared, (_P - 1) // 2, _P) != 1:
        raise ValueError("no point of the curve Ed25519, so nobody holds its private key")
    u = (1 + y) * pow(1 - y, -1, _P) % _P
    return X25519PublicKey.from_public_bytes(u.to_bytes(32, "little"))


def agreement_private_key(identity: Identity) -> X25519PrivateKey:
    """The X25519 form of a private key."""
    seed = identity.private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return X25519PrivateKey.from_private_bytes(bytes(scalar))


def public_bytes(key: X25519PrivateKey) -> bytes:
    """The 32 bytes to send of a key that was made for one attempt."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def agree(private_key: X25519PrivateKey, public_key: X25519PublicKey | bytes) -> bytes:
    """The 32 bytes that both sides compute; ValueError for a key with which anyone could compute them."""
    if isinstance(public_key, bytes):
        public_key = X25519PublicKey.from_public_bytes(public_key)
    return private_key.exchange(public_key)
