"""Through a real Tor network to our relay: by an exit, and by an onion service in front of it.

The host that may only use Tor sees of the world nothing but Tor's SOCKS port, and what it sends is recorded:
no packet may go anywhere else, not even to ask for a name.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.netns import Namespace, Network
from support.processes import Process
from support.relay import Access, Site
from support.tor_network import TorNetwork
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer
from natlab.lab.capture import Capture
from natlab.switchboard import Meeting, Switchboard

WORLD, HIDDEN = "10.99.0.1", "10.99.0.2"
RELAY = "11.0.0.10"  # looks public, as peers must; it is on the world's loopback interface
SOCKS_PORT = 9050
TOR_SECONDS = 60.0  # for circuits to be built on a busy machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Journey:
    """What became of the pairs, and what the hidden host sent."""

    def __init__(self, meetings: dict[str, Meeting], packets: list[bytes], seconds: float) -> None:
        self.meetings = meetings
        self.packets = packets
        self.bootstrap_seconds = seconds


@pytest.fixture(scope="module")
def journey(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    folder = tmp_path_factory.mktemp("onion")
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        world, hidden = network.host("world"), network.host("hidden")
        for host in (world, hidden):
            host.command("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        _, device = network.connect(world, f"{WORLD}/24", hidden, f"{HIDDEN}/24")
        hidden.ip("route", "add", "default", "via", WORLD)
        world.ip("address", "add", f"{RELAY}/32", "dev", "lo")
        access = Access(ice_peer.USER, ice_peer.PASSWORD)
        site = Site.prepare(folder / "relay", RELAY, namespace=world)
        stack.enter_context(TurnRelayServer(site, access, flags=["--shared", f"{RELAY}:443"]))
        tor = stack.enter_context(
            TorNetwork(folder / "tor", world, (WORLD, SOCKS_PORT), (3478, f"{RELAY}:3478"))
        )
        tor.wait_for_service()
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="onion-"))
        capture = stack.enter_context(Capture(hidden, device))
        meetings = asyncio.run(
            connect_all(stack, world, hidden, tor, site.certificates.authority, f"{sockets}/board")
        )
        yield Journey(meetings, capture.ip_packets(), tor.seconds)


async def connect_all(
    stack: ExitStack, world: Namespace, hidden: Namespace, tor: TorNetwork, authority: Path, board: str
) -> dict[str, Meeting]:
    environment = dict(os.environ, SSL_CERT_FILE=str(authority))
    usual = f"turn:{RELAY}?transport=tcp"
    onion = f"--onion=socks5h://{WORLD}:{SOCKS_PORT}"
    stun = f"stun:{RELAY}"  # which must not be asked
    hidden_ones = {
        "TURN over TLS": f"turns:{RELAY}:443?transport=tcp",
        "the tunnel": f"wss://{RELAY}/v1/tunnel",
        "an onion service": f"turn:{tor.onion}:3478?transport=tcp",
    }

    def start(host: Namespace, name: str, *arguments: str) -> None:
        argv = [sys.executable, "-P", ice_peer.__file__, board, name, *arguments]
        stack.enter_context(Process(argv, namespace=host, env=environment))

    switchboard = Switchboard(patience=TOR_SECONDS)
    async with await asyncio.start_unix_server(switchboard.answer, board):
        start(world, "right anybody", usual)
        for name, uri in hidden_ones.items():
            # All that would be tried otherwise is asked for, so that it would show.
            start(hidden, f"left {name}", onion, "--tcp", "--port-mapping", stun, uri)
        await asyncio.wait_for(switchboard.wait_for_computers(1 + len(hidden_ones)), 60)
        try:
            pairs = [(name, "anybody") for name in hidden_ones]
            connected = await asyncio.gather(*(switchboard.connect(pair, direct=False) for pair in pairs))
            return dict(zip(hidden_ones, connected, strict=True))
        finally:
            await switchboard.hang_up()


@pytest.mark.parametrize("way", ["TURN over TLS", "the tunnel", "an onion service"])
def test_a_host_that_may_only_use_tor_connects(journey: Journey, way: str) -> None:
    meeting = journey.meetings[way]
    print(f"{way}: usable after {meeting.usable_after} s, network up after {journey.bootstrap_seconds:.1f} s")
    assert not meeting.trouble, str(meeting)
    assert meeting.has_exchanged
    path = meeting.sides[0].path
    assert (path["local"], path["proxy"]) == ("relay", "tor")
    assert "fallback turn: not tried, everything goes through Tor (onion_only)" in meeting.sides[0].report
    assert "local host" not in meeting.sides[0].report
    assert "local srflx" not in meeting.sides[0].report


def test_nothing_leaves_that_host_but_to_tor(journey: Journey) -> None:
    sent = [packet for packet in journey.packets if packet[12:16] == bytes([10, 99, 0, 2])]
    assert len(sent) > 50
    expected = (6, bytes([10, 99, 0, 1]), SOCKS_PORT.to_bytes(2, "big"))
    assert {(packet[9], packet[16:20], packet[22:24]) for packet in sent} == {expected}
    elsewhere = [packet for packet in journey.packets if packet[0] >> 4 != 4]
    assert not elsewhere


def test_the_other_side_learns_no_address_of_that_host(journey: Journey) -> None:
    for meeting in journey.meetings.values():
        assert HIDDEN not in meeting.sides[1].report
