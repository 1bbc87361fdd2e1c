"""Addresses as people write them."""

import pytest
from peerpath.net.addresses import is_numeric, join_host_port, split_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h", ("h", 7)),
        ("h:1", ("h", 1)),
        ("[::1]", ("::1", 7)),
        ("[::1]:1", ("::1", 1)),
        ("::1", ("::1", 7)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (" h:65535 ", ("h", 65535)),
    ],
)
def test_split(text, expected):
    assert split_host_port(text, 7) == expected


@pytest.mark.parametrize(
    "text", ["", " ", ":1", "h:", "h:0", "h:65536", "h:1x", "[::1", "[::1]x", "[x]", "a/b"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match=r"port|host|IPv6"):
        split_host_port(text, 7)


@pytest.mark.parametrize("address", [("h", 1), ("192.0.2.1", 65535), ("2001:db8::1", 3478)])
def test_what_is_joined_can_be_split(address):
    assert split_host_port(join_host_port(address), 0) == address


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.1", True), ("::1", True), ("fe80::1%2", True), ("h", False), ("1.2", False)],
)
def test_numeric(host, expected):
    assert is_numeric(host) is expected
