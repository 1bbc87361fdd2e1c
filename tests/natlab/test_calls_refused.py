"""Who is not allowed gets a refusal and nothing else: no address, no packet."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.turnrelay_server import TurnRelayServer

from natlab.callers import Caller, Person, rendezvous_of, start_relay, uris_of
from natlab.lab import Lab, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def relay(lab: Lab, tmp_path: Path) -> Iterator[TurnRelayServer]:
    with start_relay(lab, tmp_path) as relay:
        yield relay


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def person(site: Site, relay: TurnRelayServer, folder: Path) -> Person:
    return Person(site.host, folder, uris_of(relay), rendezvous_of(relay))


def destinations(packets: list[bytes], source: str) -> set[str]:
    """Where `source` sent UDP to."""
    return {
        socket.inet_ntoa(packet[16:20])
        for packet in packets
        if packet[0] >> 4 == 4
        and packet[9] == socket.IPPROTO_UDP
        and socket.inet_ntoa(packet[12:16]) == source
    }


def test_an_unknown_key_is_refused_and_learns_no_address(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    left, right = lab.site("full-cone"), lab.site("full-cone")
    mallory, bob = person(left, relay, tmp_path), person(right, relay, tmp_path)
    friend = person(left, relay, tmp_path)
    listener = bob.listen(friend.key)
    stack.callback(listener.stop)
    with left.host.capture() as at_mallory, right.host.capture() as at_bob:
        dialer = mallory.dial(bob.key)
        stack.callback(dialer.stop)
        failed = dialer.fail(30)

    assert "takes no calls of this key" in failed["reason"]
    assert failed["report"]["attempts"][0]["seconds"] < 5
    told = str(failed["report"])
    assert right.public_address not in told
    assert right.host.address not in told
    # Mallory's machine saw no packet of Bob's, and none that names his address in clear.
    private, public = socket.inet_aton(right.host.address), socket.inet_aton(right.public_address)
    assert not [packet for packet in at_mallory.ip_packets() if private in packet or public in packet]
    # Bob's machine sent nothing towards Mallory, and made no allocation for the call.
    assert destinations(at_bob.ip_packets(), right.host.address) <= {relay.site.address}
    assert left.public_address not in destinations(at_bob.ip_packets(), right.host.address)
    assert not listener.of("connected")


def test_a_call_that_is_refused_while_relays_are_asked_leaves_no_allocation(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    # Mallory's request for an allocation is on its way when the refusal comes.
    mallory = person(lab.site("full-cone", delay=0.1), relay, tmp_path)
    bob = person(lab.site("full-cone"), relay, tmp_path)
    listener = bob.listen(bob.key)
    stack.callback(listener.stop)
    for _ in range(3):
        dialer = mallory.dial(bob.key)
        stack.callback(dialer.stop)
        assert "takes no calls of this key" in dialer.fail(30)["reason"]
    figures = relay.scrape()
    assert figures.total("turnrelay_allocations_created_total") > 0
    assert figures.total("turnrelay_allocations") == 0


def test_a_friend_is_let_in_where_a_stranger_was_refused(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    left, right = lab.site("full-cone"), lab.site("full-cone")
    mallory, friend, bob = (person(site, relay, tmp_path) for site in (left, left, right))
    listener = bob.listen(friend.key)
    stack.callback(listener.stop)
    refused: Caller = mallory.dial(bob.key, send=1)
    stack.callback(refused.stop)
    refused.fail(30)
    welcome = friend.dial(bob.key, send=10)
    stack.callback(welcome.stop)
    welcome.finish(30)
    assert [event["peer"] for event in listener.of("connected")] == [friend.key]


def test_a_key_that_nobody_holds_fails_at_once_and_says_so(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    site = lab.site("full-cone")
    alice, nobody = person(site, relay, tmp_path), person(site, relay, tmp_path)
    dialer = alice.dial(nobody.key, timeout=20)
    stack.callback(dialer.stop)
    failed = dialer.fail(15)
    assert "not" in failed["reason"]
    assert failed["report"]["attempts"][0]["seconds"] < 5


def test_a_relay_only_peer_is_reached_and_shows_no_address(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    left, right = lab.site("full-cone"), lab.site("full-cone")
    alice, bob = person(left, relay, tmp_path), person(right, relay, tmp_path)
    listener = bob.listen(alice.key, more=["--relay-only"])
    stack.callback(listener.stop)
    with left.host.capture() as at_alice:
        dialer = alice.dial(bob.key, send=20)
        stack.callback(dialer.stop)
        events = dialer.finish(40)
    assert [event["path"]["kind"] for event in events if event["event"] == "connected"] == ["relay"]
    private, public = socket.inet_aton(right.host.address), socket.inet_aton(right.public_address)
    assert not [packet for packet in at_alice.ip_packets() if private in packet or public in packet]
