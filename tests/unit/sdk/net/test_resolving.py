"""Resolver: the order of addresses and services, and what SRV records are for."""

import random
import socket
import threading

import pytest
from peerpath.errors import PeerpathError
from peerpath.net.dialing import dial_host
from peerpath.net.proxies import Proxy
from peerpath.net.resolving import ResolveError, Resolver, ServiceTarget, in_srv_order, interleave
from peerpath.net.way_out import dial_for
from peerpath.settings import Settings
from stunwire import TransportAddress
from unit.sdk.stun.servers_on_loopback import Names


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["4a", "4b"], ["4a", "4b"]),
        (["4a", "6:a", "4b", "6:b", "6:c"], ["6:a", "4a", "6:b", "4b", "6:c"]),
        ([], []),
    ],
)
def test_families_take_turns(given, expected):
    assert interleave(given) == expected


def test_srv_targets_go_by_priority():
    low, high = ServiceTarget("a", 1, 10, 0), ServiceTarget("b", 1, 20, 100)
    assert in_srv_order([high, low]) == [low, high]


def test_srv_targets_of_one_priority_are_drawn_by_weight():
    heavy, light = ServiceTarget("heavy", 1, 0, 90), ServiceTarget("light", 1, 0, 10)
    choose = random.Random(1)
    first = [in_srv_order([light, heavy], choose)[0].host for _ in range(1000)]

    assert 850 < first.count("heavy") < 950


async def server(names, port=None):
    return await names.server("stun.test", port, service="stun", protocol="udp", default_port=3478)


async def test_without_srv_records_the_default_port_is_used():
    assert await server(Names({"stun.test": ["192.0.2.1"]})) == [TransportAddress("192.0.2.1", 3478)]


async def test_a_port_in_the_name_wins_over_srv_records():
    names = Names({"stun.test": ["192.0.2.1"]}, {("stun", "udp", "stun.test"): [("other.test", 1)]})
    assert await server(names, 5000) == [TransportAddress("192.0.2.1", 5000)]


async def test_srv_targets_without_address_are_passed_over():
    records = {("stun", "udp", "stun.test"): [("gone.test", 1), ("real.test", 2)]}
    names = Names({"real.test": ["192.0.2.2"]}, records)
    assert await server(names) == [TransportAddress("192.0.2.2", 2)]

    with pytest.raises(ResolveError, match=r"names gone\.test, which has no address"):
        await server(Names({}, records))


async def test_numbers_are_not_looked_up():
    assert await Resolver().addresses("192.0.2.1", 1) == [TransportAddress("192.0.2.1", 1)]


async def test_localhost_is_found_as_the_system_finds_it():
    found = await Resolver().addresses("localhost", 1)
    assert {address.host for address in found} <= {"127.0.0.1", "::1"}
    assert found


async def test_a_name_that_leads_nowhere_is_named():
    # Over-long labels are refused before anybody is asked.
    with pytest.raises(ResolveError, match="has no address"):
        await Resolver().addresses("x" * 64 + ".invalid", 1)


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: Resolver().addresses("relay.test", 1),
        lambda: dial_host("relay.test", 1),
        lambda: Proxy.parse("http://relay.test:1").connect("192.0.2.1", 1, Resolver()),
        lambda: dial_for("wss://relay.test", Settings(proxy="socks5://192.0.2.1:1"))("relay.test", 1),
    ],
    ids=["resolver", "directly", "the proxy's own name", "for the proxy"],
)
async def test_a_look_up_that_nobody_answers_is_given_up(look_up, monkeypatch):
    """As where a network lets no question out."""
    over = threading.Event()

    def look_up_in_vain(*_, **__):
        over.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up_in_vain)
    monkeypatch.setattr("peerpath.net.resolving._LOOK_UP_SECONDS", 0.1, raising=False)
    try:
        with pytest.raises(PeerpathError, match=r"relay\.test has no address: no answer within 0\.1 s"):
            await look_up()
    finally:
        over.set()
