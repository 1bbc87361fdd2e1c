"""Proxies as people write them, which one is used for what, and what HTTP proxies answer."""

import pytest
from peerpath.net.http_connect import ConnectAnswer, ConnectRefused, connect_request
from peerpath.net.proxies import Proxy, ProxyKind
from peerpath.net.proxy_rules import ProxyRules

# -- Proxy.parse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.test:3128", Proxy(ProxyKind.HTTP, "proxy.test", 3128)),
        ("proxy.test:3128", Proxy(ProxyKind.HTTP, "proxy.test", 3128)),
        ("http://proxy.test/", Proxy(ProxyKind.HTTP, "proxy.test", 8080)),
        ("HTTP://u:p%40ss@[::1]:1", Proxy(ProxyKind.HTTP, "::1", 1, "u", "p@ss")),
        ("http://token@proxy.test:1", Proxy(ProxyKind.HTTP, "proxy.test", 1, "token", "")),
        ("socks5h://u:p@h", Proxy(ProxyKind.SOCKS5, "h", 1080, "u", "p", True)),
        ("socks5://127.0.0.1:9", Proxy(ProxyKind.SOCKS5, "127.0.0.1", 9, "", "", False)),
    ],
)
def test_a_proxy_is_read(url, expected):
    assert Proxy.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("https://proxy.test:1", "socks4://proxy.test:1", "http://", "http://:80", "http://h:99999"),
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
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_yes_in_pieces_of_any_size(answer, size):
    reader = ConnectAnswer(has_credentials=False)
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    assert [reader.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


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
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "NTLM, Negotiate authentication, and only Basic",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "nobody asked for"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "longer than"),
    ],
)
def test_a_no_has_its_reason(answer, reason):
    with pytest.raises(ConnectRefused, match=reason):
        ConnectAnswer(has_credentials=False).feed(answer)


def test_a_407_to_a_password_does_not_ask_for_one():
    with pytest.raises(ConnectRefused, match="does not accept the user name and password"):
        ConnectAnswer(has_credentials=True).feed(b"HTTP/1.1 407 No\r\n\r\n")
