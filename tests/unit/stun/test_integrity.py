"""HMAC as RFC 2104 has it: the standard library's is the judge."""

import hmac
from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import keyed_digest


@pytest.mark.parametrize("algorithm", [sha1, sha256])
@given(key=st.binary(max_size=200), data=st.binary(max_size=2000))
def test_a_keyed_digest_is_the_hmac(algorithm, key, data):
    assert keyed_digest(key, data, algorithm) == hmac.digest(key, data, algorithm)


@pytest.mark.parametrize("size", [63, 64, 65])
def test_keys_around_the_block_size(size):
    key = bytes(range(size))
    assert keyed_digest(key, b"data", sha1) == hmac.digest(key, b"data", "sha1")
