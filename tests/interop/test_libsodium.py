"""Identities as agreement keys, against libsodium's conversion."""

import ctypes
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from peerpath.identity import Identity, PublicKey
from peerpath.signaling.agreement import agreement_private_key, agreement_public_key
from support.requirements import require_library

LIBSODIUM = "libsodium.so.23"


@pytest.fixture(scope="module")
def sodium():
    require_library(LIBSODIUM)
    library = ctypes.CDLL(LIBSODIUM)
    assert library.sodium_init() >= 0
    return library


def test_keys_convert_as_libsodium_converts_them(sodium):
    for _ in range(200):
        seed = os.urandom(32)
        identity = Identity(Ed25519PrivateKey.from_private_bytes(seed))
        converted = ctypes.create_string_buffer(32)
        assert sodium.crypto_sign_ed25519_pk_to_curve25519(converted, identity.public_key.raw) == 0
        public = agreement_public_key(identity.public_key)
        assert public.public_bytes(Encoding.Raw, PublicFormat.Raw) == converted.raw
        sodium.crypto_sign_ed25519_sk_to_curve25519(converted, seed + identity.public_key.raw)
        private = agreement_private_key(identity)
        assert private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()) == converted.raw


def test_what_is_off_the_curve_for_libsodium_is_so_here(sodium):
    refused = 0
    for number in range(200):
        raw = number.to_bytes(1, "little") + os.urandom(30) + b"\x11"
        on_curve = sodium.crypto_core_ed25519_is_valid_point(_times_eight(sodium, raw)) == 1
        try:
            agreement_public_key(PublicKey(raw))
        except ValueError:
            refused += 1
            assert not on_curve
        else:
            assert on_curve
    assert 50 < refused < 150  # half of all y have no x


def _times_eight(sodium, raw):
    """The point in the main subgroup, in which alone libsodium calls a point valid; zero if there is none."""
    point, doubled = raw, ctypes.create_string_buffer(32)
    for _ in range(3):
        if sodium.crypto_core_ed25519_add(doubled, point, point) != 0:
            return bytes(32)
        point = doubled.raw
    return point
