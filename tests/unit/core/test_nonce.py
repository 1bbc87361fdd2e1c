"""Nonces (RFC 8489 sections 9.2 and 14.10): proof of when and to whom they were given, and nothing stored."""

import pytest
from stunwire import SecurityFeatures, TransportAddress
from turnrelay.core.addresses import ClientAddress
from turnrelay.core.nonce import NonceAuthority

ALL = SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY
CLIENT = ClientAddress(TransportAddress("198.51.100.15", 40000))


def authority(*keys: bytes, lifetime: int = 3600, features: SecurityFeatures = ALL) -> NonceAuthority:
    return NonceAuthority(keys or (b"key",), lifetime, features)


@pytest.mark.parametrize("age", [0, 1, 15, 16, 17, 1800, 3599, 3600])
@pytest.mark.parametrize("start", [0, 7.5, 15.99, 1.7e9])
def test_a_nonce_lives_as_long_as_promised(start, age):
    nonces = authority()
    assert nonces.accepts(nonces.issue(CLIENT, start), CLIENT, start + age)


@pytest.mark.parametrize("lifetime", [16, 60, 600, 3600])
def test_a_nonce_goes_stale(lifetime):
    """RFC 8656 section 5: at least once an hour. The clock of the nonce is a little coarse."""
    nonces = authority(lifetime=lifetime)
    for start in (0, 7.5, 15.99):
        nonce = nonces.issue(CLIENT, start)
        assert not nonces.accepts(nonce, CLIENT, start + lifetime + 32)
        assert not nonces.accepts(nonce, CLIENT, start + 10 * lifetime + 32)


@pytest.mark.parametrize("years", [1, 5, 8])
def test_an_old_nonce_is_never_fresh_again(years):
    nonces = authority()
    assert not nonces.accepts(nonces.issue(CLIENT, 0), CLIENT, years * 365 * 86400)


def test_a_node_whose_clock_runs_ahead_a_little_is_believed():
    ours, theirs = authority(b"shared"), authority(b"shared")
    nonce = theirs.issue(CLIENT, 1016)
    assert ours.accepts(nonce, CLIENT, 1000)
    assert not ours.accepts(theirs.issue(CLIENT, 1100), CLIENT, 1000)


@pytest.mark.parametrize(
    "other", [("198.51.100.15", 40001), ("198.51.100.16", 40000), ("::ffff:198.51.100.15", 40000)]
)
def test_it_is_bound_to_the_address_of_its_client(other):
    nonces = authority()
    nonce = nonces.issue(CLIENT, 0)
    assert not nonces.accepts(nonce, ClientAddress(TransportAddress(*other)), 0)


def test_host_and_port_cannot_be_shifted_into_each_other():
    nonces = authority()
    first, second = (TransportAddress("198.51.100.1", 51234), TransportAddress("198.51.100.15", 1234))
    assert nonces.issue(ClientAddress(first), 0) != nonces.issue(ClientAddress(second), 0)


def test_keys_can_be_rotated():
    """The first key signs, the others are still accepted, and a key that is gone takes its nonces along."""
    before, during, after = authority(b"old"), authority(b"new", b"old"), authority(b"new")
    old, new = before.issue(CLIENT, 0), during.issue(CLIENT, 0)
    assert old != new
    assert during.accepts(old, CLIENT, 1)
    assert during.accepts(new, CLIENT, 1)
    assert after.accepts(new, CLIENT, 1)
    assert not after.accepts(old, CLIENT, 1)
    assert not before.accepts(new, CLIENT, 1)


def test_it_cannot_be_made_without_the_key():
    assert not authority(b"ours").accepts(authority(b"theirs").issue(CLIENT, 0), CLIENT, 0)


def test_there_is_no_authority_without_a_key():
    with pytest.raises(ValueError, match="key"):
        NonceAuthority((), 3600, ALL)


@pytest.mark.parametrize("bits", [0, 1, 2])
def test_the_features_are_part_of_the_proof(bits):
    """Section 9.2.1: a nonce that announced other features is not ours, even under the same key."""
    other = authority(features=SecurityFeatures(bits)).issue(CLIENT, 0)
    assert not authority().accepts(other, CLIENT, 0)
    transplanted = "obMatJos2AAAD" + other[13:]
    assert not authority().accepts(transplanted, CLIENT, 0)


def test_no_character_of_cookie_time_or_proof_may_change():
    nonces = authority()
    nonce = nonces.issue(CLIENT, 0)
    # The last character of the base64 holds two bits that belong to nothing.
    for position, character in enumerate(nonce[:-1]):
        for other in "Az0+=é\0":
            if other != character:
                forged = nonce[:position] + other + nonce[position + 1 :]
                assert not nonces.accepts(forged, CLIENT, 0), forged


@pytest.mark.parametrize("position", [0, 9, 13, 14, 20, 27, 28])
@pytest.mark.parametrize("junk", ["\0", " ", "\n", "-", "=", "A"])
def test_nothing_may_be_put_into_it(position, junk):
    nonces = authority()
    nonce = nonces.issue(CLIENT, 0)
    assert not nonces.accepts(nonce[:position] + junk + nonce[position:], CLIENT, 0)


@pytest.mark.parametrize("cut", range(28))
def test_a_part_of_a_nonce_is_none(cut):
    nonces = authority()
    nonce = nonces.issue(CLIENT, 0)
    assert not nonces.accepts(nonce[:cut], CLIENT, 0)
    assert not nonces.accepts(nonce + nonce[:cut] if cut else "", CLIENT, 0)


def test_a_nonce_is_recognised_however_many_were_issued_since():
    nonces = authority()
    nonce = nonces.issue(CLIENT, 0)
    for port in range(20_000):
        nonces.issue(CLIENT._replace(host="203.0.113.9", port=port), 0)
    assert nonces.accepts(nonce, CLIENT, 0)
    assert not nonces.accepts(nonce, CLIENT._replace(port=1), 0)
