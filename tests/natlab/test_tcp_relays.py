"""Calls by TCP relays (RFC 6062), where these are the only way, and what is said where there is none."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab.callers import Caller, Event, Person, rendezvous_of
from natlab.lab import Host, Lab

MESSAGES = 50
# No connection is opened to the peer itself, and no relay is used that sends datagrams to it.
NOTHING_ELSE = "fallbacks = []\ntcp = false\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@dataclass
class World:
    """Two hosts whose networks let no UDP out, one on the open internet, and three relays."""

    folder: Path
    blocked: tuple[Host, Host]
    open: Host
    relays: tuple[TurnRelayServer, TurnRelayServer]
    without_tcp: TurnRelayServer

    def person(self, host: Host, *relays: TurnRelayServer) -> Person:
        uris = [f"turn:{relay.site.address}:{relay.port}?transport=tcp" for relay in relays]
        return Person(host, self.folder, uris, rendezvous_of(self.relays[0]))

    def config(self, text: str) -> list[str]:
        """Flags for these settings."""
        path = self.folder / f"{abs(hash(text))}.toml"
        path.write_text(text)
        return ["--config", str(path)]


@pytest.fixture(scope="module")
def world(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tcp-relays")
    with Lab() as lab, ExitStack() as stack:

        def relay(name: str, *flags: str) -> TurnRelayServer:
            server = lab.server(name)
            site = RelaySite.prepare(folder / name, server.address, namespace=server.namespace)
            return stack.enter_context(TurnRelayServer(site, Access(), flags=flags))

        yield World(
            folder,
            (lab.site("udp-blocked", delay=0.02).host, lab.site("udp-blocked", delay=0.02).host),
            lab.site("open").host,
            (relay("one", "--tcp-relay", "on"), relay("other", "--tcp-relay", "on")),
            relay("plain"),
        )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begin(stack: ExitStack, caller: Caller) -> Caller:
    stack.callback(caller.stop)
    return caller


def talk(dialer: Caller) -> Event:
    """Sees to it that every message came back; the first path."""
    events = dialer.finish(60)
    assert [event["index"] for event in events if event["event"] == "message"] == list(range(MESSAGES))
    [connected] = [event for event in events if event["event"] == "connected"]
    print(f"{connected['path']} after {connected['elapsed_ms']} ms")
    path: Event = connected["path"]
    return path


@pytest.mark.parametrize("theirs", [0, 1], ids=["one relay", "a relay each"])
def test_both_sides_without_udp_meet_by_tcp_relays(world: World, stack: ExitStack, theirs: int) -> None:
    flags = ["--tcp-relay", *world.config(NOTHING_ELSE)]
    alice = world.person(world.blocked[0], world.relays[0])
    bob = world.person(world.blocked[1], world.relays[theirs])
    begin(stack, bob.listen(alice.key, more=flags))
    path = talk(begin(stack, alice.dial(bob.key, send=MESSAGES, more=flags)))
    assert (path["kind"], path["transport"]) == ("tcp_relay", "turn-tcp-tcp")


def test_a_peer_that_is_reached_over_tcp_alone_is_reached_by_a_tcp_relay(
    world: World, stack: ExitStack
) -> None:
    """It has no relay, and the caller shows it no address: the relay connects to its passive candidate."""
    alice, bob = world.person(world.blocked[0], world.relays[0]), world.person(world.open)
    begin(stack, bob.listen(alice.key))
    flags = ["--relay-only", *world.config('fallbacks = ["tcp_relay"]\n')]
    assert talk(begin(stack, alice.dial(bob.key, send=MESSAGES, more=flags)))["kind"] == "tcp_relay"


def test_where_the_relay_for_udp_leads_nowhere_the_peer_connects_to_the_one_for_tcp(
    world: World, stack: ExitStack
) -> None:
    """The peer has a NAT, no relay and no UDP, so that no datagram of a relay arrives."""
    alice, bob = world.person(world.blocked[0], world.relays[0]), world.person(world.blocked[1])
    bob.servers = [f"stun:{world.relays[1].site.address}"]
    begin(stack, bob.listen(alice.key))
    dialer = begin(stack, alice.dial(bob.key, send=MESSAGES, more=["--tcp-relay", "--relay-only"]))
    assert talk(dialer)["kind"] == "tcp_relay"


def test_a_relay_without_tcp_relays_is_named_with_its_reason(world: World, stack: ExitStack) -> None:
    flags = ["--tcp-relay", *world.config(NOTHING_ELSE)]
    alice, bob = (world.person(host, world.without_tcp) for host in world.blocked)
    begin(stack, bob.listen(alice.key, more=flags))
    failed = begin(stack, alice.dial(bob.key, timeout=5, more=flags)).fail(30)
    assert "442 it offers no TCP relays (RFC 6062)" in failed["text"]
    assert "fallback tcp_relay: no relayed address" in failed["text"]
