"""Proxies as people write them, which one is used for what, and what HTTP proxies answer."""

import pytest
from peerpath.net.http_connect import HttpConnect, connect_request
from peerpath.net.negotiation import ProxyRefused
from peerpath.net.proxies import Proxy, ProxyKind
from peerpath.net.proxy_rules import ProxyRules
from peerpath.net.socks5 import Socks5

# -- Proxy.parse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.test:3128", Proxy(ProxyKind.HTTP, "proxy.test", 3128)),
        ("proxy.test:3128", Proxy(ProxyKind.HTTP, "proxy.test", 3128)),
        ("http://proxy.test/", Proxy(ProxyKind.HTTP, "proxy.test", 8080)),
        ("HTTP://u:p%40ss@[::1]:1", Proxy(ProxyKind.HTTP, "::1", 1, "u", "p@ss")),
        ("http://token@proxy.test:1", Proxy(ProxyKind.HTTP, "proxy.test", 1, "token", "")),
        ("https://u:p@h", Proxy(ProxyKind.HTTP, "h", 443, "u", "p", secure=True)),
        ("socks5h://u:p@h", Proxy(ProxyKind.SOCKS5, "h", 1080, "u", "p", True)),
        ("socks5://127.0.0.1:9", Proxy(ProxyKind.SOCKS5, "127.0.0.1", 9, "", "", False)),
    ],
)
def test_a_proxy_is_read(url, expected):
    assert Proxy.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("socks4://proxy.test:1", "http://", "http://:80", "http://h:99999"),
        *("http://h/path", "http://h?q", "http://[::1", "socks5://user@h", f"socks5://u:{'x' * 256}@h"),
        *("socks5://ü:p@h", "http://a%3Ab:p@h", ""),
    ],
)
def test_what_is_no_proxy_is_refused_without_a_word_of_it(url):
    with pytest.raises(ValueError, match="proxy") as refused:
        Proxy.parse(url)
    assert len(url) < 10 or url not in str(refused.value)


def test_a_proxy_for_one_purpose_is_another_user_to_tor():
    tor = Proxy.tor("socks5h://127.0.0.1:9050")
    first, again, second = (tor.isolated(purpose) for purpose in (b"alice", b"alice", b"bob"))
    assert first == again
    assert first.username != second.username
    assert first.password
    assert first.kind is ProxyKind.TOR


# -- ProxyRules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "secure", "plain"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "a:1"}, "a", "a"),
        ({"https_proxy": "a:1", "HTTPS_PROXY": "b:1"}, "a", "a"),
        ({"HTTPS_PROXY": "a:1", "HTTP_PROXY": "b:1"}, "a", "b"),
        ({"HTTPS_PROXY": "a:1", "ALL_PROXY": "socks5h://c:1"}, "a", "c"),
        ({"ALL_PROXY": "socks5h://c:1"}, "c", "c"),
        ({"http_proxy": "b:1"}, "b", "b"),
        ({"HTTP_PROXY": "b:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "b:1", "REQUEST_METHOD": "GET"}, "b", "b"),
        ({"HTTPS_PROXY": "  "}, None, None),
    ],
)
def test_the_environment_names_proxies_as_it_does_for_curl(environ, secure, plain):
    rules = ProxyRules.from_environment(environ)
    found = [rules.proxy_for("relay.test", 443, secure=kind) for kind in (True, False)]
    assert [proxy and proxy.host for proxy in found] == [secure, plain]


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "exempt"),
    [
        ("*", "relay.test", 443, True),
        ("relay.test", "relay.test", 443, True),
        ("relay.test", "a.relay.test", 443, True),
        (".relay.test", "a.relay.test", 443, True),
        ("*.relay.test", "a.relay.test", 443, True),
        ("relay.test", "otherrelay.test", 443, False),
        ("Relay.TEST", "RELAY.test", 443, True),
        ("relay.test:443", "relay.test", 443, True),
        ("relay.test:443", "relay.test", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("192.0.2.1", "192.0.2.1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("2001:db8::/32", "2001:db8::1", 443, True),
        ("a.test, b.test", "b.test", 443, True),
        ("a.test b.test", "b.test", 443, True),
        (",", "relay.test", 443, False),
        # What domains end with says nothing of addresses.
        (".0.1", "192.0.0.1", 443, False),
    ],
)
def test_no_proxy_exempts_hosts(no_proxy, host, port, exempt):
    rules = ProxyRules.from_environment({"ALL_PROXY": "p:1", "NO_PROXY": no_proxy})
    assert (rules.proxy_for(host, port, secure=True) is None) is exempt


# -- CONNECT ----------------------------------------------------------------------------------------------


def test_the_request_is_what_rfc_9110_wants():
    assert connect_request("2001:db8::1", 443, "Aladdin", "open sesame") == (
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
        b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"  # the example of RFC 7617
    )
    assert b"Authorization" not in connect_request("relay.test", 443)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_yes_in_pieces_of_any_size(answer, size):
    negotiation = HttpConnect("relay.test", 443)
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    for piece in pieces:
        assert not negotiation.is_done
        assert negotiation.feed(piece) == b""
    assert negotiation.is_done


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "without an answer"),
        (b"SSH-2.0", "not HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403: it does not permit this destination"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502: it could not reach"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n", "302: it refuses"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "wants a user name and a password"),
        (b"HTTP/1.1 407 No\r\n\r\n", "wants a user name and a password"),
        (b'HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM, Basic realm="a, b"\r\n\r\n', "wants a user name"),
        (
            b'HTTP/1.1 407 No\r\nproxy-authenticate: Digest realm="x, Basic y", nonce="z", qop=auth\r\n\r\n',
            "wants Digest authentication, and only Basic",
        ),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "NTLM, Negotiate authentication, and only Basic",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "nobody asked for"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "longer than"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101: it refuses"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "longer than"),
    ],
)
def test_a_no_has_its_reason(answer, reason):
    with pytest.raises(ProxyRefused, match=reason):
        HttpConnect("relay.test", 443).feed(answer)


def test_a_407_to_a_password_does_not_ask_for_one():
    with pytest.raises(ProxyRefused, match="does not accept the user name and password"):
        HttpConnect("relay.test", 443, "bob", "builder").feed(b"HTTP/1.1 407 No\r\n\r\n")


# -- SOCKS5 -----------------------------------------------------------------------------------------------

YES_IPV4 = "05 00 00 01 7f000001 0050"
YES_NAME = "05 00 00 03 02 6869 0050"


def socks5(username="", password="", host="relay.test"):
    return Socks5(host, 443, username, password)


def play(negotiation, answers, size=1000):
    """What the client says to each answer of the proxy's, whose bytes come in pieces."""
    said = [negotiation.begin().hex()]
    for answer in answers:
        data = bytes.fromhex(answer)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        said += [b"".join(map(negotiation.feed, pieces)).hex()]
    return said


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("yes", [YES_IPV4, YES_NAME, "05 00 00 04" + "00" * 18])
def test_socks_without_a_password(yes, size):
    negotiation = socks5()
    request = "0501000" + "30a" + b"relay.test".hex() + "01bb"
    assert play(negotiation, ["05 00", yes], size) == ["050100", request, ""]
    assert negotiation.is_done


@pytest.mark.parametrize("size", [1, 1000])
def test_socks_with_a_password(size):
    negotiation = socks5("bob", "builder", "2001:db8::1")
    said = play(negotiation, ["05 02", "01 00", YES_IPV4], size)
    secrets = "0103" + b"bob".hex() + "07" + b"builder".hex()
    assert said == ["05020002", secrets, "05010004" + "20010db8" + "00" * 11 + "01" + "01bb", ""]
    assert negotiation.is_done


def test_a_socks_proxy_that_wants_no_password_is_told_none():
    assert len(play(socks5("bob", "builder", "192.0.2.1"), ["05 00", YES_IPV4])) == 3


@pytest.mark.parametrize(
    ("username", "answers", "reason"),
    [
        ("", ["05 ff"], "wants authentication: a user name and a password"),
        ("", ["05 02"], "wants authentication"),
        ("", ["05 01"], "wants authentication"),
        ("bob", ["05 ff"], "takes no user name and password, and nothing else is spoken"),
        ("bob", ["05 02", "01 01"], "does not accept the user name and password"),
        ("bob", ["05 02", "07 00"], "not SOCKS5"),
        ("", ["04 5a"], "not SOCKS5"),
        ("", [b"HTTP/1.1 400".hex()], "not SOCKS5"),
        ("", ["05 00", "05 01"], "answered 1: it failed"),
        ("", ["05 00", "05 02 00 01 00000000 0000"], "answered 2: it does not permit"),
        ("", ["05 00", "05 05 00 01 00000000 0000"], "answered 5: the destination refuses"),
        ("", ["05 00", "05 63 00 01 00000000 0000"], "answered 99: it refuses the connection"),
        ("", ["05 00", "05 00 00 02 00"], "not SOCKS5"),
        ("", ["05 00", YES_IPV4 + "68"], "nobody asked for"),
        ("", ["05 00", YES_IPV4, "68"], "nobody asked for"),
        ("", ["05 00 05 00"], "not SOCKS5"),
    ],
)
def test_a_no_of_socks_has_its_reason(username, answers, reason):
    with pytest.raises(ProxyRefused, match=reason):
        play(socks5(username, "builder" if username else ""), answers)


def test_a_socks_proxy_that_hangs_up_says_so():
    with pytest.raises(ProxyRefused, match="without an answer"):
        socks5().feed(b"")
