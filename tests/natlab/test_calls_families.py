"""Two hosts that have no address family in common: a relay that has both stands between them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.coturn_server import CoturnServer
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab.callers import Event, Person, keep_ipv4_to_itself, rendezvous_of, start_relay
from natlab.lab import Lab, Site

MESSAGES = 20
TCP_ALONE = 'fallbacks = ["tcp_relay"]\n'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def relay(lab: Lab, tmp_path: Path) -> Iterator[TurnRelayServer]:
    with start_relay(lab, tmp_path, both_families=True, flags=["--tcp-relay", "on"]) as relay:
        yield relay


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def of_ipv6_alone(lab: Lab) -> Site:
    site = lab.site("full-cone", ipv6="firewall")
    keep_ipv4_to_itself(site)
    return site


def talk(stack: ExitStack, caller: Person, callee: Person, more: list[str]) -> Event:
    """Sees to it that every message came back; the first path of the caller's."""
    stack.callback(callee.listen(caller.key).stop)
    dialer = caller.dial(callee.key, send=MESSAGES, more=more)
    stack.callback(dialer.stop)
    events = dialer.finish(60)
    assert len([event for event in events if event["event"] == "message"]) == MESSAGES
    [connected] = [event for event in events if event["event"] == "connected"]
    print(f"{connected['path']} after {connected['elapsed_ms']} ms")
    path: Event = connected["path"]
    return path


@pytest.mark.parametrize("carrier", ["udp", "tcp"])
@pytest.mark.parametrize("privacy", ["full", "relay-only"])
def test_a_relay_takes_a_host_of_ipv4_to_a_peer_of_ipv6(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path, carrier: str, privacy: str
) -> None:
    meeting = rendezvous_of(relay)
    uri = f"turn:{relay.site.address}:{relay.port}?transport={carrier}"
    alice = Person(lab.site("symmetric").host, tmp_path, [uri], meeting)
    bob = Person(of_ipv6_alone(lab).host, tmp_path, [], meeting)
    path = talk(stack, alice, bob, ["--relay-only"] if privacy == "relay-only" else [])
    assert (path["kind"], path["transport"]) == ("relay", f"turn-{carrier}")


def test_coturn_takes_a_host_of_ipv4_to_a_peer_of_ipv6(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    server = lab.server("coturn")
    addresses = server.address, server.address6
    site = RelaySite.prepare(tmp_path / "coturn", *addresses, namespace=server.namespace)
    coturn = stack.enter_context(CoturnServer(site, Access()))
    uri = f"turn:{server.address}:{coturn.port}"
    alice = Person(lab.site("symmetric").host, tmp_path, [uri], rendezvous_of(relay))
    bob = Person(of_ipv6_alone(lab).host, tmp_path, [], rendezvous_of(relay))
    assert talk(stack, alice, bob, [])["kind"] == "relay"


def test_a_tcp_relay_takes_a_host_of_ipv4_to_a_peer_of_ipv6(
    lab: Lab, relay: TurnRelayServer, stack: ExitStack, tmp_path: Path
) -> None:
    config = tmp_path / "tcp-alone.toml"
    config.write_text(TCP_ALONE)
    meeting = rendezvous_of(relay)
    uri = f"turn:{relay.site.address}:{relay.port}?transport=tcp"
    alice = Person(lab.site("udp-blocked").host, tmp_path, [uri], meeting)
    site = lab.site("full-cone", ipv6="open")
    bob = Person(site.host, tmp_path, [], meeting)
    keep_ipv4_to_itself(site)
    path = talk(stack, alice, bob, ["--relay-only", "--config", str(config)])
    assert (path["kind"], path["transport"]) == ("tcp_relay", "turn-tcp-tcp")
