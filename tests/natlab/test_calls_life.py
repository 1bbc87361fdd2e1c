"""A connection outlives what happens to its path: cuts, reboots, a relay that dies. Nothing lost or doubled.

The dialer sends numbered messages at a steady rate and exits with 0 only if each came back, once and in
order. The recovery time is the longest pause between two echoes; it is printed and not judged.
"""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.turnrelay_server import TurnRelayServer

from natlab.callers import Event, Person, rendezvous_of, start_relay, uris_of
from natlab.lab import Lab, Site

RATE = 50  # messages a second
KINDS = [("port-restricted", "linux"), ("symmetric", "symmetric")]
REBOOTS = list(itertools.product(KINDS, (0, 1)))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Talk:
    """A dialer and a listener who exchange messages while things happen."""

    def __init__(
        self,
        stack: ExitStack,
        left: Site,
        right: Site,
        relays: list[TurnRelayServer],
        folder: Path,
        *,
        seconds: float,
        rendezvous: TurnRelayServer | None = None,
        more: tuple[str, ...] = (),
    ) -> None:
        meeting = rendezvous_of(rendezvous or relays[0])
        alice = Person(left.host, folder, uris_of(*relays), meeting)
        bob = Person(right.host, folder, uris_of(*relays), meeting)
        self.listener = bob.listen(alice.key, more=more)
        stack.callback(self.listener.stop)
        count = int(seconds * RATE)
        flags = ("--rate", str(RATE), *more)
        self.dialer = alice.dial(bob.key, send=count, size=100, more=flags)
        stack.callback(self.dialer.stop)
        self.count = count
        self.dialer.wait_for("message", 60, count=RATE)  # a second's worth

    def finish(self, within: float) -> list[Event]:
        events = self.dialer.finish(within)
        assert numbers_of(events) == list(range(self.count))
        return events

    def until_path(self, kind: str, within: float) -> list[Event]:
        """Until messages have come by such a path for a second."""
        dialer = self.dialer
        dialer.process.wait_until(lambda: paths_of(dialer.events)[-1] == kind, within)
        dialer.wait_for("message", within, count=len(dialer.of("message")) + RATE)
        events = dialer.events
        numbers = numbers_of(events)
        assert numbers == list(range(len(numbers)))
        return events

    def recovery(self, events: list[Event]) -> float:
        times = [event["at"] for event in events if event["event"] == "message"]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def numbers_of(events: list[Event]) -> list[int]:
    """Of the messages that came back."""
    return [event["index"] for event in events if event["event"] == "message"]


def paths_of(events: list[Event]) -> list[str]:
    """The kinds of path, in order, "-" for none."""
    told = [event["path"] for event in events if event["event"] in ("connected", "path")]
    kinds = ["-" if path is None else path["kind"] for path in told]
    return [kind for kind, _ in itertools.groupby(kinds)]


@pytest.mark.parametrize("kinds", KINDS)
def test_a_path_that_is_cut_for_five_seconds_goes_on(
    lab: Lab, stack: ExitStack, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    relay = stack.enter_context(start_relay(lab, tmp_path))
    left, right = (lab.site(kind, delay=0.01) for kind in kinds)
    talk = Talk(stack, left, right, [relay], tmp_path, seconds=8)
    left.cut(5)
    events = talk.finish(60)
    print(f"{kinds}: {talk.recovery(events):.2f} s without an echo, paths {paths_of(events)}")


@pytest.mark.parametrize(
    ("kinds", "who"),
    REBOOTS if os.environ.get("PEERPATH_LONG") else REBOOTS[::3],
    ids=lambda value: (
        {0: "of-the-dialer", 1: "of-the-listener"}.get(value) if isinstance(value, int) else None
    ),
)
def test_a_nat_that_reboots_with_another_address_is_survived(
    lab: Lab, stack: ExitStack, tmp_path: Path, kinds: tuple[str, str], who: int
) -> None:
    relay = stack.enter_context(start_relay(lab, tmp_path))
    sites = [lab.site(kind, delay=0.01) for kind in kinds]
    talk = Talk(stack, *sites, [relay], tmp_path, seconds=8)
    sites[who].reboot(new_address=True)
    events = talk.finish(90)
    print(f"{kinds}, {who}: {talk.recovery(events):.2f} s without an echo, paths {paths_of(events)}")


def test_a_host_that_changes_its_address_goes_on(lab: Lab, stack: ExitStack, tmp_path: Path) -> None:
    relay = stack.enter_context(start_relay(lab, tmp_path))
    left, right = lab.site("port-restricted", delay=0.01), lab.site("linux", delay=0.01)
    talk = Talk(stack, left, right, [relay], tmp_path, seconds=10)
    address = left.host.address
    other = address.rsplit(".", 1)[0] + ".77"
    # As a laptop does that gets another lease: first the new address, then the old one is gone.
    left.host.run(["ip", "address", "add", f"{other}/24", "dev", "eth0"])
    left.host.run(["sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1"])
    left.host.run(["ip", "address", "del", f"{address}/24", "dev", "eth0"])
    left.host.run(["ip", "route", "replace", "default", "via", left.router.address])
    events = talk.finish(60)
    print(f"address changed: {talk.recovery(events):.2f} s without an echo, paths {paths_of(events)}")


def test_a_relay_that_is_killed_is_replaced_by_the_second_one(
    lab: Lab, stack: ExitStack, tmp_path: Path
) -> None:
    meeting = stack.enter_context(start_relay(lab, tmp_path, "meeting"))
    relays = {name: start_relay(lab, tmp_path, name) for name in ("one", "two")}
    for relay in relays.values():
        stack.enter_context(relay)
    left, right = lab.site("symmetric", delay=0.01), lab.site("symmetric", delay=0.01)
    talk = Talk(stack, left, right, list(relays.values()), tmp_path, seconds=8, rendezvous=meeting)
    used = max(relays.values(), key=lambda relay: relay.scrape().total("turnrelay_relayed_bytes_total"))
    used.process.stop(5)
    events = talk.finish(90)
    print(f"relay killed: {talk.recovery(events):.2f} s without an echo, paths {paths_of(events)}")


def test_a_relay_that_dies_with_the_rendezvous_is_replaced_without_a_word(
    lab: Lab, stack: ExitStack, tmp_path: Path
) -> None:
    """There is nobody to carry a restart, so what both sides know of each other has to do."""
    first = stack.enter_context(start_relay(lab, tmp_path, "one"))
    second = stack.enter_context(start_relay(lab, tmp_path, "two"))
    left, right = lab.site("symmetric", delay=0.01), lab.site("symmetric", delay=0.01)
    talk = Talk(stack, left, right, [first, second], tmp_path, seconds=10)
    time.sleep(2)
    first.process.signal(signal.SIGKILL)
    events = talk.finish(90)
    print(f"relay and rendezvous killed: {talk.recovery(events):.2f} s without an echo, {paths_of(events)}")
    # Unanswered consent checks alone would take 12 to 18 s to cast doubt on the path.
    assert talk.recovery(events) < 10


def test_a_relayed_connection_becomes_direct_underneath(lab: Lab, stack: ExitStack, tmp_path: Path) -> None:
    relay = stack.enter_context(start_relay(lab, tmp_path))
    left, right = lab.site("port-restricted", delay=0.01), lab.site("linux", delay=0.01)
    # Nothing direct gets through at first: the peers' public addresses are out of reach for each other.
    left.host.run(["nft", "add", "table", "inet", "gate"])
    left.host.run(["nft", "add", "chain", "inet", "gate", "out", "{ type filter hook output priority 0; }"])
    left.host.run(["nft", "add", "rule", "inet", "gate", "out", "ip", "daddr", right.public_address, "drop"])
    talk = Talk(stack, left, right, [relay], tmp_path, seconds=24)
    assert paths_of(talk.dialer.events) == ["relay"]
    left.host.run(["nft", "delete", "table", "inet", "gate"])
    events = talk.finish(120)
    assert paths_of(events)[-1] in ("srflx", "prflx", "host")
    print(f"relay to direct: {talk.recovery(events):.2f} s without an echo, paths {paths_of(events)}")


@pytest.mark.parametrize("kinds", [("symmetric-sequential", "port-restricted"), ("linux", "symmetric")])
def test_a_hard_nat_is_punched_while_the_relay_carries_the_data(
    lab: Lab, stack: ExitStack, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    # How a NAT maps shows where servers have two addresses to ask.
    relay = stack.enter_context(start_relay(lab, tmp_path, two_addresses=True))
    left, right = (lab.site(kind, delay=0.01) for kind in kinds)
    talk = Talk(stack, left, right, [relay], tmp_path, seconds=60)
    events = talk.until_path("predicted", 50)
    print(f"{kinds}: {talk.recovery(events):.2f} s without an echo, paths {paths_of(events)}")
    assert paths_of(events)[0] == "relay"
    assert paths_of(events)[-1] == "predicted"
