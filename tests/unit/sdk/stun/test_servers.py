"""StunServer.parse: what people write, and what they should have written."""

import pytest
from peerpath.stun.servers import StunServer
from stunwire import StunUri


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("stun.example.org", StunServer("stun.example.org")),
        ("Stun.Example.org:1234", StunServer("stun.example.org", 1234)),
        ("stun:stun.example.org", StunServer("stun.example.org")),
        ("stun:stun.example.org:19302", StunServer("stun.example.org", 19302)),
        ("stuns:stun.example.org", StunServer("stun.example.org", None, "tls")),
        ("stun:stun.example.org?transport=tcp", StunServer("stun.example.org", None, "tcp")),
        ("192.0.2.1", StunServer("192.0.2.1")),
        ("[2001:db8::1]:3479", StunServer("2001:db8::1", 3479)),
        ("2001:db8::1", StunServer("2001:db8::1")),
        ("stun:[2001:db8::1]", StunServer("2001:db8::1")),
        (("192.0.2.1", 3478), StunServer("192.0.2.1", 3478)),
        (("2001:db8::1", 3478), StunServer("2001:db8::1", 3478)),
        (StunUri("h", 5349, True, "tcp"), StunServer("h", 5349, "tls")),
        (StunServer("h"), StunServer("h")),
    ],
)
def test_parse(given, expected):
    assert StunServer.parse(given) == expected


@pytest.mark.parametrize("text", ["h", "h:1", "[2001:db8::1]:1", "stuns:h:1", "stun:h?transport=tcp"])
def test_it_is_written_as_it_is_read(text):
    server = StunServer.parse(text)
    assert StunServer.parse(str(server)) == server


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "write a host name"),
        ("a b", "write a host name"),
        ("h:", "a port is missing"),
        ("h:99999", "a port is a number from 1 to 65535"),
        ("h:x", "a port is a number"),
        ("[2001:db8::1", "write an IPv6 address and port as"),
        ("2001:db8:::1", "is not an IPv6 address"),
        ("https://h", "write a host name"),
        ("stun:h?transport=sctp", "only .transport=tcp"),
        ("stuns:h?transport=tcp", "only .transport=tcp"),
        (5, "write a server as"),
        (("h", 0), "a port is a number"),
    ],
)
def test_what_cannot_be_parsed_says_what_to_write(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        StunServer.parse(given)
