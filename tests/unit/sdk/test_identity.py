"""Keys as text, in files, and for people to compare."""

import base64
import stat
import subprocess

import pytest
from peerpath.identity import Identity, IdentityError, PublicKey


def test_a_key_comes_back_from_its_text():
    key = Identity.generate().public_key
    assert PublicKey.parse(str(key)) == key
    assert PublicKey.parse(f"  {str(key).upper()}\n") == key
    assert len(str(key)) == 58


@pytest.mark.parametrize("place", range(2, 58))
def test_any_single_mistyped_character_is_noticed(place):
    text = str(Identity.generate().public_key)
    other = "a" if text[place] != "a" else "b"
    with pytest.raises(ValueError, match="is no public key"):
        PublicKey.parse(text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize("text", ["", "pp", "hello", "pp" + "a" * 55, "qq" + "a" * 56, "pp" + "1" * 56])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="is no public key"):
        PublicKey.parse(text)


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        PublicKey(bytes(31))


def test_signatures_hold_for_one_message_and_one_key():
    alice, bob = Identity.generate(), Identity.generate()
    signature = alice.sign(b"hello")
    assert alice.public_key.verify(signature, b"hello")
    assert not alice.public_key.verify(signature, b"hullo")
    assert not bob.public_key.verify(signature, b"hello")
    assert not alice.public_key.verify(signature[:-1], b"hello")


def test_fingerprints_are_six_groups_and_differ():
    prints = {Identity.generate().public_key.fingerprint for _ in range(50)}
    assert len(prints) == 50
    assert all([len(group) for group in text.split()] == [5] * 6 for text in prints)


def test_the_published_vector_signs_as_rfc_8032_says(tmp_path):
    # RFC 8032 section 7.1, TEST 1.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    file = tmp_path / "key"
    prefix = bytes.fromhex("302e020100300506032b657004220420")
    body = base64.b64encode(prefix + seed).decode()
    file.write_text(f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    file.chmod(0o600)
    identity = Identity.load(file)
    assert identity.public_key.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")


def test_a_saved_identity_is_private_and_comes_back(tmp_path):
    identity, file = Identity.generate(), tmp_path / "alice.key"
    identity.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Identity.load(file).public_key == identity.public_key


def test_openssl_reads_what_is_saved(tmp_path):
    identity, file = Identity.generate(), tmp_path / "alice.key"
    identity.save(file)
    der = subprocess.run(
        ["openssl", "pkey", "-in", file, "-pubout", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert der.endswith(identity.public_key.raw)


def test_a_key_is_never_overwritten(tmp_path):
    file = tmp_path / "alice.key"
    Identity.generate().save(file)
    before = file.read_bytes()
    with pytest.raises(IdentityError, match="not overwritten"):
        Identity.generate().save(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_use_is_refused(tmp_path, mode):
    file = tmp_path / "alice.key"
    Identity.generate().save(file)
    file.chmod(mode)
    with pytest.raises(IdentityError, match=f"mode 0{mode:o}.*chmod 600"):
        Identity.load(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "no private key"), (b"hello", "no private key"), (b"\xff" * 100, "no private key")],
)
def test_a_file_that_is_no_key_is_refused(tmp_path, content, reason):
    file = tmp_path / "alice.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(IdentityError, match=reason):
        Identity.load(file)


def test_another_kind_of_key_is_refused(tmp_path):
    file = tmp_path / "x.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", file], check=True)
    file.chmod(0o600)
    with pytest.raises(IdentityError, match="not an Ed25519"):
        Identity.load(file)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(IdentityError, match="peerpath identity new"):
        Identity.load(tmp_path / "none")
