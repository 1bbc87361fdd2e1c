"""Keys and user hashes (RFC 8489 sections 9 and 18.5.1, RFC 8265)."""

from hashlib import md5, sha256

import pytest
from stunwire import (
    PasswordAlgorithm,
    PreparationError,
    long_term_key,
    opaque_string,
    short_term_key,
    userhash,
)


def test_long_term_key():
    # RFC 8489 section 18.5.1.1: MD5(username ":" realm ":" password); the example of RFC 5389 section 15.4.
    assert long_term_key("user", "realm", "pass") == md5(b"user:realm:pass").digest()
    assert long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"
    assert (
        long_term_key("user", "realm", "pass", PasswordAlgorithm.SHA256)
        == sha256(b"user:realm:pass").digest()
    )
    assert long_term_key("user", "realm", "pass", 2) == sha256(b"user:realm:pass").digest()


@pytest.mark.parametrize("algorithm", [0, 3, 0xFFFF])
def test_unknown_algorithm(algorithm):
    with pytest.raises(ValueError, match=f"password algorithm {algorithm}"):
        long_term_key("user", "realm", "pass", algorithm)


def test_short_term_key():
    assert short_term_key("VOkJxbRl1RmTxUk/WvJxBt") == b"VOkJxbRl1RmTxUk/WvJxBt"
    assert short_term_key("e\u0301") == "é".encode()


def test_userhash():
    assert userhash("user", "realm") == sha256(b"user:realm").digest()
    assert userhash("e\u0301", "realm") == userhash("é", "realm")


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 8265 section 4.3, table of OpaqueString examples.
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("πßå", "πßå"),
        ("Jack of ♦s", "Jack of ♦s"),
        ("foo\u1680bar", "foo bar"),
        # NFC, and every other space to U+0020.
        ("A\u030a", "Å"),
        ("a\u3000b", "a b"),
        ("".join(map(chr, range(0x20, 0x7F))), "".join(map(chr, range(0x20, 0x7F)))),
    ],
)
def test_opaque_string(text, prepared):
    assert opaque_string(text) == prepared
    assert opaque_string(prepared) == prepared


@pytest.mark.parametrize("text", ["", "my cat is a \tby", "a\0", "\x7f", "a\u00adb", "\ud800", "\u200b"])
def test_opaque_string_refuses(text):
    with pytest.raises(PreparationError, match=r"^realm: ") as caught:
        opaque_string(text, "realm")
    assert caught.value.field == "realm"
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: long_term_key("u", "\0", "p"), "realm"),
        (lambda: long_term_key("u", "r", "\0"), "password"),
        (lambda: short_term_key("\0"), "password"),
        (lambda: userhash("\0", "r"), "username"),
        (lambda: userhash("u", "\0"), "realm"),
    ],
)
def test_refused_field_is_named(make, field):
    with pytest.raises(PreparationError) as caught:
        make()
    assert caught.value.field == field
