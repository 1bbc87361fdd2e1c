"""Feature bits in the nonce (RFC 8489 section 9.2, erratum 6290)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import SecurityFeatures, nonce_cookie, security_features

BOTH = SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY


@pytest.mark.parametrize(
    ("features", "cookie"),
    [
        (SecurityFeatures.NONE, "obMatJos2AAAA"),
        (SecurityFeatures.PASSWORD_ALGORITHMS, "obMatJos2AAAB"),
        (SecurityFeatures.USERNAME_ANONYMITY, "obMatJos2AAAC"),  # the nonce of RFC 8489 B.1
        (BOTH, "obMatJos2AAAD"),
    ],
)
def test_cookies(features, cookie):
    assert nonce_cookie(features) == cookie
    assert security_features(cookie) == features
    assert security_features(cookie + "f//499k954d6OL34oL9FSTvy64sA") == features


@given(st.integers(0, (1 << 24) - 1), st.text(max_size=20))
def test_round_trip(bits, rest):
    # Unassigned bits come through, for RFC 8489 section 9.2.1 lets later documents assign them.
    cookie = nonce_cookie(SecurityFeatures(bits))
    assert len(cookie) == 13
    assert security_features(cookie + rest) == bits


@pytest.mark.parametrize(
    "nonce",
    [
        "",
        "f//499k954d6OL34oL9FSTvy64sA",
        "obMatJos2",
        "obMatJos2AAA",
        "obMatJos2A-AA",
        "obMatJos2AA==",
        "obMatJos2AA é",
    ],
)
def test_no_cookie(nonce):
    assert security_features(nonce) is None


@given(st.text(max_size=20))
def test_any_text_behind_the_cookie(rest):
    features = security_features("obMatJos2" + rest)
    assert features is None or nonce_cookie(features) == ("obMatJos2" + rest)[:13]


def test_does_not_fit():
    with pytest.raises(OverflowError):
        nonce_cookie(SecurityFeatures(1 << 24))
