"""Which fallbacks are tried, in which order, and why the others are not."""

import pytest
from peerpath import Settings, SettingsError
from peerpath.fallbacks import USUAL_FALLBACKS, Fallback, with_tcp_relay
from peerpath.ice.configuration import IceServer
from peerpath.ice.from_settings import relay_options, servers_from
from peerpath.ice.relay_plan import RelayOptions, plan
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_rules import ProxyRules

UDP = IceServer("turn:relay.test", "u", "p")
TCP = IceServer("turn:relay.test?transport=tcp", "u", "p")
TLS = IceServer("turns:relay.test:443", "u", "p")
TUNNEL = IceServer("wss://relay.test/v1/tunnel", "u", "p")
STUN = IceServer("stun:relay.test")
EVERYTHING = (STUN, UDP, TCP, TLS, TUNNEL)
PROXY = Proxy.parse("http://proxy.test:3128")
TOR = Proxy.tor("socks5h://127.0.0.1:9050")


def shape(servers, **options):
    """Per fallback the URIs that are tried, and over UDP or through what; or the reason why none is."""
    return {
        stage.fallback.value: stage.left_out
        or [
            *(["over UDP"] if stage.has_datagrams else []),
            *(
                attempt.server.uri + (f" through {attempt.proxy.kind}" if attempt.proxy else "")
                for attempt in stage.attempts
            ),
        ]
        for stage in plan(servers, RelayOptions(**options))
    }


def test_everything_there_is():
    streams = [server.uri for server in (TCP, TLS, TUNNEL)]
    assert shape(EVERYTHING, proxies=ProxyRules.always(PROXY), tor=TOR) == {
        "turn": ["over UDP", TCP.uri, TLS.uri],
        "http_tunnel": [TUNNEL.uri],
        "proxy": [f"{uri} through http" for uri in streams],
        "onion": [f"{uri} through tor" for uri in streams],
        "tcp_relay": "it is left out of the settings",
    }


@pytest.mark.parametrize(
    ("servers", "options", "expected"),
    [
        (EVERYTHING, {}, [TCP.uri, TLS.uri]),
        (
            EVERYTHING,
            {"proxies": ProxyRules.always(PROXY)},
            [TCP.uri, TLS.uri, f"{TCP.uri} through http", f"{TLS.uri} through http"],
        ),
        (
            EVERYTHING,
            {"proxies": ProxyRules.always(PROXY), "fallbacks": (Fallback.TCP_RELAY,)},
            [TCP.uri, TLS.uri],
        ),
        ((STUN, UDP, TUNNEL), {}, "no TURN server for TCP is configured: turns: or ?transport=tcp is wanted"),
        (EVERYTHING, {"onion_only": True, "tor": TOR}, "everything goes through Tor (onion_only)"),
    ],
)
def test_tcp_relays_are_asked_of_turn_servers_over_streams(servers, options, expected):
    options = {"fallbacks": with_tcp_relay(USUAL_FALLBACKS)} | options
    assert shape(servers, **options)["tcp_relay"] == expected


@pytest.mark.parametrize(
    ("servers", "options", "expected"),
    [
        ((), {}, ("no TURN server", "no tunnel", "no server for TCP", "Tor's SOCKS port is not")),
        ((STUN, UDP), {"tor": TOR}, (None, "no tunnel", "no server for TCP", "no server for TCP")),
        ((TUNNEL,), {}, ("no TURN server", None, "no proxy", "Tor's SOCKS port is not")),
        (
            EVERYTHING,
            {"onion_only": True, "tor": TOR},
            ("through Tor", "through Tor", "through Tor", None),
        ),
        (EVERYTHING, {"fallbacks": (Fallback.HTTP_TUNNEL,)}, ("left out", None, "left out", "left out")),
    ],
)
def test_why_a_fallback_is_not_tried(servers, options, expected):
    found = shape(servers, **options)
    for name, reason in zip(("turn", "http_tunnel", "proxy", "onion"), expected, strict=True):
        assert isinstance(found[name], list) if reason is None else reason in found[name]


def test_the_order_is_that_of_the_settings_and_what_is_left_out_comes_last():
    order = (Fallback.ONION, Fallback.TURN)
    left_out = ["tcp_relay", "http_tunnel", "proxy"]
    assert list(shape(EVERYTHING, fallbacks=order, tor=TOR)) == ["onion", "turn", *left_out]


def test_a_host_that_is_exempt_is_not_asked_through_the_proxy():
    rules = ProxyRules(PROXY, PROXY, ("relay.test",))
    elsewhere = IceServer("turns:elsewhere.test:443", "u", "p")
    assert shape((TLS, elsewhere), proxies=rules)["proxy"] == ["turns:elsewhere.test:443 through http"]


# -- from settings ----------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_the_environment_names_the_proxy_unless_the_settings_do(environment):
    environment.setenv("HTTPS_PROXY", "http://first.test:1")
    assert relay_options(Settings.load()).proxies.secure.host == "first.test"
    assert relay_options(Settings.load(proxy="socks5h://second.test:2")).proxies.secure.host == "second.test"
    assert relay_options(Settings.load(proxy="off")).proxies.secure is None


def test_without_automatic_traversal_that_is_the_reason_for_each(environment):
    settings = Settings.load(
        automatic=False, turn_servers=[{"uri": "turn:h", "username": "u", "password": "p"}]
    )
    stages = plan(servers_from(settings), relay_options(settings))
    assert {stage.left_out for stage in stages} == {"automatic is off in the settings"}


def test_onion_only_knows_no_other_proxy(environment):
    environment.setenv("HTTPS_PROXY", "http://first.test:1")
    options = relay_options(Settings.load(onion_only=True, tor="socks5h://127.0.0.1:9050"))
    assert (options.proxies, options.tor, options.onion_only) == (ProxyRules(), TOR, True)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"onion_only": True}, "onion_only wants Tor's SOCKS port"),
        (
            {"onion_only": True, "tor": "socks5h://[::1]:9050", "fallbacks": ["turn"]},
            "wants the fallback onion",
        ),
        ({"tor": "socks5://127.0.0.1:9050"}, "tor: write Tor's SOCKS port as socks5h://"),
        ({"tor": "http://127.0.0.1:9050"}, "tor: write Tor's SOCKS port as socks5h://"),
        ({"proxy": "ftp://u:secret@proxy.test"}, "proxy: write a proxy as http://host:port"),
        ({"proxy": "http://u:secret@proxy.test:no"}, "proxy: the proxy's host or port cannot be read"),
        ({"turn_servers": [{"uri": "https://relay.test"}]}, "begin with"),
    ],
)
def test_settings_that_cannot_be_used_are_named(given, complaint):
    with pytest.raises(SettingsError, match=complaint) as refused:
        Settings.load(**given)
    assert "secret" not in str(refused.value)


def test_a_proxy_in_the_environment_that_cannot_be_read_is_named(environment):
    environment.setenv("ALL_PROXY", "gopher://x")
    with pytest.raises(SettingsError, match="ALL_PROXY: write a proxy as"):
        relay_options(Settings.load())


def test_no_password_is_shown():
    settings = Settings.load(proxy="http://user:secret@proxy.test:8080")
    assert "secret" not in repr(settings)
    assert "secret" not in repr(relay_options(settings))
    assert "secret" not in str(relay_options(settings).proxies.secure)
