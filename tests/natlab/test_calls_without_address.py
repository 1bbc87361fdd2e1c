"""A host that is called while it has no address to be reached at: the caller is told, or it is waited for."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.turnrelay_server import TurnRelayServer

from natlab.callers import Person, keep_ipv4_to_itself, rendezvous_of, start_relay, uris_of
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


def unnumbered(lab: Lab) -> Site:
    """A site whose host reaches the rendezvous, and has no address that a peer could use."""
    site = lab.site("full-cone")
    keep_ipv4_to_itself(site)
    return site


def person(site: Site, relay: TurnRelayServer, folder: Path) -> Person:
    return Person(site.host, folder, uris_of(relay), rendezvous_of(relay))


def test_who_calls_a_host_without_an_address_is_told_so_at_once(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    alice, bob = person(lab.site("full-cone"), relay, tmp_path), person(unnumbered(lab), relay, tmp_path)
    stack.callback(bob.listen(alice.key).stop)
    dialer = alice.dial(bob.key, timeout=60)
    stack.callback(dialer.stop)
    failed = dialer.fail(40)
    assert "the call failed at the peer: this machine has no address" in failed["reason"]
    print(f"told after {failed['report']['attempts'][0]['seconds']:.2f} s")
    assert failed["report"]["attempts"][0]["seconds"] < 30


def test_an_address_that_comes_while_the_call_is_answered_is_used(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    site = unnumbered(lab)
    alice, bob = person(lab.site("full-cone"), relay, tmp_path), person(site, relay, tmp_path)
    listener = bob.listen(alice.key)
    stack.callback(listener.stop)
    dialer = alice.dial(bob.key, send=5)
    stack.callback(dialer.stop)
    # Not a moment that the test chooses: it comes when the call is already there, or hardly before.
    site.host.run(["sleep", "1"])
    site.host.run(["ip", "address", "add", f"{site.host.address}/24", "dev", "eth0"])
    events = dialer.finish(60)
    assert [event["event"] for event in events].count("connected") == 1
    assert len([event for event in events if event["event"] == "message"]) == 5
