"""stun: and turn: URIs (RFC 7064, RFC 7065)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import StunUri, TurnUri, UriError, parse_uri

# RFC 7064 appendix B and RFC 7065 appendix B, then our own.
URIS = [
    ("stun:example.org", StunUri("example.org", 3478)),
    ("stuns:example.org", StunUri("example.org", 5349, True, "tcp")),
    ("stun:example.org:8000", StunUri("example.org", 8000)),
    ("turn:example.org", TurnUri("example.org", 3478)),
    ("turns:example.org", TurnUri("example.org", 5349, True, "tcp")),
    ("turn:example.org:8000", TurnUri("example.org", 8000)),
    ("turn:example.org?transport=udp", TurnUri("example.org", 3478, False, "udp")),
    ("turn:example.org?transport=tcp", TurnUri("example.org", 3478, False, "tcp")),
    ("turns:example.org?transport=tcp", TurnUri("example.org", 5349, True, "tcp")),
    ("turns:example.org:443?transport=udp", TurnUri("example.org", 443, True, "udp")),
    ("turn:192.0.2.1:1", TurnUri("192.0.2.1", 1)),
    ("turn:[2001:db8::1]", TurnUri("2001:db8::1", 3478)),
    ("turn:[2001:DB8:0::1]:65535?transport=TCP", TurnUri("2001:db8::1", 65535, False, "tcp")),
    ("TURN:Example.ORG", TurnUri("example.org", 3478)),
    ("stun:xn--bcher-kva.example", StunUri("xn--bcher-kva.example", 3478)),
    ("stun:localhost", StunUri("localhost", 3478)),
    ("stun:my_host.", StunUri("my_host.", 3478)),
]


@pytest.mark.parametrize(("text", "uri"), URIS)
def test_parse(text, uri):
    assert parse_uri(text) == uri
    assert type(uri).parse(text) == uri
    assert parse_uri(str(uri)) == uri


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (StunUri("example.org", 3478), "stun:example.org"),
        (StunUri("example.org", 5349), "stun:example.org:5349"),
        (TurnUri("2001:db8::1", 3478), "turn:[2001:db8::1]"),
        (TurnUri("example.org", 443, True, "tcp"), "turns:example.org:443"),
        (TurnUri("example.org", 5349, True, "udp"), "turns:example.org?transport=udp"),
        (TurnUri("example.org", 3478, False, "tcp"), "turn:example.org?transport=tcp"),
    ],
)
def test_str_leaves_out_what_is_usual(uri, text):
    assert str(uri) == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "scheme"),
        ("example.org", "scheme"),
        ("http://example.org", "scheme"),
        ("turn://example.org", "scheme"),
        (" turn:example.org", "scheme"),
        ("turn:", "host"),
        ("turn::3478", "host"),
        ("turn:user@example.org", "host"),
        ("turn:2001:db8::1", "port"),
        ("turn:[2001:db8::1", "host"),
        ("turn:2001:db8::1]", "port"),
        ("turn:[example.org]", "host"),
        ("turn:[fe80::1%eth0]", "host"),
        ("turn:[192.0.2.1]", "host"),
        ("turn:[]", "host"),
        ("turn:[::1\0]", "host"),
        ("turn:bücher.example", "host"),
        ("turn:exa mple.org", "host"),
        ("turn:example.org/path", "host"),
        ("turn:example.org#here", "host"),
        ("turn:example.org\n", "host"),
        ("turn:" + "a" * 254, "host"),
        ("turn:" + "a" * 64 + ".example.org", "host"),
        ("turn:relay..example.org", "host"),
        ("turn:example.org:", "port"),
        ("turn:example.org:0", "port"),
        ("turn:example.org:65536", "port"),
        ("turn:example.org:-1", "port"),
        ("turn:example.org:٣", "port"),
        ("turn:example.org:80\n", "port"),
        ("turn:example.org?", "query"),
        ("turn:example.org?transport=", "query"),
        ("turn:example.org?transport=sctp", "query"),
        ("turn:example.org?transport=udp&x=1", "query"),
        ("turn:example.org?Transport", "query"),
        ("stun:example.org?transport=udp", "query"),
        ("stun:example.org?", "query"),
    ],
)
def test_refused(text, place):
    with pytest.raises(UriError) as caught:
        parse_uri(text)
    assert caught.value.place == place
    assert str(caught.value) == f"{place}: {caught.value.mend}"


def test_the_other_scheme():
    with pytest.raises(UriError, match="'turn' where stun or stuns is wanted"):
        StunUri.parse("turn:example.org")
    with pytest.raises(UriError, match="'stuns' where turn or turns is wanted"):
        TurnUri.parse("stuns:example.org")


names = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,30}", fullmatch=True)
hosts = st.one_of(names, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
ports = st.integers(1, 65535)


@given(hosts, ports, st.booleans(), st.sampled_from(["udp", "tcp"]))
def test_round_trip(host, port, secure, transport):
    turn = TurnUri(host, port, secure, transport)
    parsed = TurnUri.parse(str(turn))
    # An IPv6 address may come back in another spelling of the same address (::ffff:192.0.2.1).
    assert (parsed.port, parsed.secure, parsed.transport) == (port, secure, transport)
    assert parsed.host == host or ":" in host
    assert TurnUri.parse(str(parsed)) == parsed
    stun = StunUri(host, port, secure, "tcp" if secure else "udp")
    assert StunUri.parse(str(stun)).port == port


@given(st.text(max_size=40), st.sampled_from(["", "stun:", "turns:", "turn:[", "turn:a:", "turn:a?"]))
def test_any_text_is_a_uri_or_a_uri_error(text, beginning):
    try:
        uri = parse_uri(beginning + text)
    except UriError:
        return
    assert parse_uri(str(uri)) == uri
