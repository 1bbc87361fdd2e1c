"""Whom a request is from, behind proxies and behind people who say they are proxies."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from turnrelay.web.client_addresses import ClientAddresses

PROXIES = ("127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32")


def request_from(peer, *forwarded):
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    return make_mocked_request("GET", "/", headers=headers).clone(remote=peer)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("198.51.100.1", [], "198.51.100.1", id="direct"),
        pytest.param("198.51.100.1", ["203.0.113.9"], "198.51.100.1", id="direct, and claims another"),
        pytest.param("127.0.0.1", [], "127.0.0.1", id="the proxy's own"),
        pytest.param("127.0.0.1", ["203.0.113.9"], "203.0.113.9", id="one proxy"),
        pytest.param("127.0.0.1", ["203.0.113.9, 10.1.1.1"], "203.0.113.9", id="two proxies"),
        pytest.param("127.0.0.1", ["203.0.113.9", "10.1.1.1"], "203.0.113.9", id="two proxies, two headers"),
        pytest.param("127.0.0.1", ["8.8.8.8, 203.0.113.9"], "203.0.113.9", id="one proxy, claims another"),
        pytest.param("127.0.0.1", ["8.8.8.8, nonsense"], "127.0.0.1", id="nonsense ends it"),
        pytest.param("127.0.0.1", ["10.2.2.2"], "10.2.2.2", id="a client in the proxies' range"),
        pytest.param("::ffff:127.0.0.1", ["203.0.113.9"], "203.0.113.9", id="a mapped proxy"),
        pytest.param("2001:db8::5", ["2001:4860::1"], "2001:4860::1", id="IPv6"),
    ],
)
def test_forwarded_addresses_are_believed_as_far_as_trusted_proxies_wrote_them(peer, forwarded, client):
    assert ClientAddresses(PROXIES).of(request_from(peer, *forwarded)) == client


def test_without_trusted_proxies_nothing_is_believed():
    assert ClientAddresses([]).of(request_from("127.0.0.1", "8.8.8.8")) == "127.0.0.1"
