"""Endpoints as settings want them."""

import pytest
from peerpath import Settings, SettingsError
from peerpath.ice.configuration import IceServer
from peerpath.ice.from_settings import endpoint_from, servers_from
from peerpath.ice.role import Role

TURN = {"uri": "turn:relay.test?transport=udp", "username": "u", "password": "p"}
OVER_TLS = {"uri": "turns:relay.test:443?transport=tcp", "username": "u", "password": "p"}


def settings(**given):
    return Settings.load(stun_servers=["stun:one.test"], turn_servers=[TURN, OVER_TLS], **given)


def uris(settings):
    return [server.uri for server in servers_from(settings)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["stun:one.test", "turn:relay.test", "turns:relay.test:443"]),
        ({"custom_stun_servers": ["stun:mine.test"]}, ["stun:mine.test", "stun:one.test"]),
        ({"backup_stun_servers": ["stun:two.test:1"]}, ["stun:one.test", "stun:two.test:1"]),
        # Server-reflexive candidates are for UDP.
        ({"backup_stun_servers": ["stuns:two.test"]}, ["stun:one.test", "turn:relay.test"]),
        ({"relay_only": True}, ["turn:relay.test", "turns:relay.test:443"]),
        (
            {"onion_only": True, "tor": "socks5h://127.0.0.1:9050"},
            ["turn:relay.test", "turns:relay.test:443"],
        ),
        ({"automatic": False}, []),
    ],
)
def test_servers(given, expected):
    found = uris(settings(**given))
    assert found[: len(expected)] == expected
    assert given.get("automatic", True) or found == expected


def test_credentials_come_with_the_server():
    server = servers_from(settings())[1]
    assert server == IceServer("turn:relay.test", "u", "p")


async def test_an_endpoint_has_the_times_and_the_privacy_of_the_settings():
    endpoint = endpoint_from(
        Role.CONTROLLING,
        settings(relay_only=True, keepalive_interval=20, local_ports="40000-40010", candidate_timeout=2),
        rescan=0,
    )
    assert (endpoint.options.relay_only, endpoint.options.keepalive_interval) == (True, 20.0)
    await endpoint.close()


@pytest.mark.parametrize("given", [{}, {"tcp": False}, {"automatic": False}, {"relay_only": True}])
async def test_connections_are_used_unless_the_settings_are_against_it(given):
    endpoint = endpoint_from(Role.CONTROLLING, settings(**given), rescan=0)
    assert endpoint.options.tcp is (given == {})
    await endpoint.close()


def test_keepalives_may_not_be_more_frequent_than_the_rfc_allows():
    with pytest.raises(SettingsError, match="keepalive_interval"):
        Settings.load(keepalive_interval=5)
