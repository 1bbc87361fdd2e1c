"""Identities as agreement keys: libsodium's published vector, and what no key can be."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from peerpath.identity import Identity, PublicKey
from peerpath.signaling.agreement import agree, agreement_private_key, agreement_public_key, public_bytes

# libsodium, test/default/ed25519_convert.c and .exp.
SEED = "421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee"
PUBLIC = "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50"
PRIVATE = "8052030376d47112be7f73ed7a019293dd12ad910b654455798b4667d73de166"


def test_the_published_vector_converts_as_libsodium_says():
    identity = Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEED)))
    private = agreement_private_key(identity)
    public = agreement_public_key(identity.public_key)
    assert private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex() == PRIVATE
    assert public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex() == PUBLIC


def test_both_halves_of_an_identity_convert_to_one_key_pair():
    for _ in range(50):
        identity, other = Identity.generate(), X25519PrivateKey.generate()
        there = agree(other, agreement_public_key(identity.public_key))
        assert there == agree(agreement_private_key(identity), public_bytes(other))


P = 2**255 - 19
OFF_THE_CURVE = (2).to_bytes(32, "little")
ORDER_FOUR = bytes(32)
ORDER_EIGHT = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(OFF_THE_CURVE, id="off the curve"),
        pytest.param((1).to_bytes(32, "little"), id="order 1"),
        pytest.param((P - 1).to_bytes(32, "little"), id="order 2"),
        pytest.param(P.to_bytes(32, "little"), id="zero, not reduced"),
        pytest.param((P + 3).to_bytes(32, "little"), id="three, not reduced"),
        pytest.param(b"\xff" * 32, id="all ones"),
        pytest.param(ORDER_FOUR, id="order 4"),
        pytest.param(ORDER_EIGHT, id="order 8"),
    ],
)
def test_nobody_agrees_with_a_key_that_nobody_can_hold(raw):
    with pytest.raises(ValueError):
        agree(X25519PrivateKey.generate(), agreement_public_key(PublicKey(raw)))
