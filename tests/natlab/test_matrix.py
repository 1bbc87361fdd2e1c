"""All 144 pairs of the matrix find a path with the SDK's ICE and our relay, and it is direct if it can be.

Each of twelve kinds is there twice. A host runs one process (ice_peer.py) with the SDK as an application
uses it: our server as STUN server, and as TURN server over UDP and TCP. Every site is 20 ms from the
internet, so 40 ms is the round trip to the server and 80 ms the one between two peers.

The time of a pair begins when one side calls: before its sockets are open. It ends when the first datagram
of the application has come out on both sides. So it includes

- gathering on both sides; the called side begins when the offer has reached it,
- signaling over a server that is as far as the relay: each message takes 40 ms, in order, over this process,
- the checks, and the way of the datagrams themselves,

but not connecting to the signaling server, which applications are before they call. Data may flow over a
relay before there is a direct path; the time until the direct path is used on both sides is told apart.
"""

import asyncio
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer
from natlab.lab import MATRIX, Lab, can_punch
from natlab.switchboard import Meeting, Switchboard

ONE_WAY = 0.02
AT_ONCE = 3  # pairs; more of them keep each other's packets waiting on two cores
NICENESS = -10  # of the lab, the relay and the peers
MEDIAN_LIMIT = 0.4

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

# One pair after the other has other hosts than those before it.
PAIRS = [
    (MATRIX[left], MATRIX[(left + turn) % len(MATRIX)])
    for turn, left in itertools.product(range(len(MATRIX)), repeat=2)
]


async def connect_all(lab: Lab, uris: list[str], socket_path: str) -> list[Meeting]:
    switchboard = Switchboard()
    server = await asyncio.start_unix_server(switchboard.answer, socket_path)
    async with server:
        for shore, kind in itertools.product(("left", "right"), MATRIX):
            site = lab.site(kind, delay=ONE_WAY)
            argv = [sys.executable, "-P", ice_peer.__file__, socket_path, f"{shore} {kind}", *uris]
            site.host.popen(argv)
        await asyncio.wait_for(switchboard.wait_for_computers(2 * len(MATRIX)), 150)
        room = asyncio.Semaphore(AT_ONCE)

        async def take_turn(kinds: tuple[str, str]) -> Meeting:
            async with room:
                return await switchboard.connect(kinds, direct=can_punch(*kinds))

        try:
            return await asyncio.gather(*map(take_turn, PAIRS))
        finally:
            await switchboard.hang_up()


@contextmanager
def _precedence() -> Iterator[None]:
    """Programs that start now go before what else the machine does: its load is not what is measured."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    # A container may not be allowed to.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


@pytest.fixture(scope="module")
def meetings(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Meeting]]:
    with ExitStack() as stack:
        stack.enter_context(_precedence())
        lab = stack.enter_context(Lab())
        server = lab.server()
        folder = tmp_path_factory.mktemp("turnrelay")
        site = RelaySite.prepare(folder, server.address, namespace=server.namespace)
        access = Access(ice_peer.USER, ice_peer.PASSWORD)
        stack.enter_context(TurnRelayServer(site, access))
        # The path of a Unix socket is short; that of a test's folder may not be.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="matrix-")))
        turn = f"turn:{server.address}:{TurnRelayServer.port}?transport="
        uris = [f"stun:{server.address}:{TurnRelayServer.port}", f"{turn}udp", f"{turn}tcp"]
        yield asyncio.run(connect_all(lab, uris, str(sockets / "board")))


def test_every_pair_connects_and_carries_data_both_ways(meetings: list[Meeting]) -> None:
    _print_table(meetings)

    assert len({meeting.kinds for meeting in meetings}) == 144
    troubled = [meeting for meeting in meetings if meeting.trouble]
    assert not troubled, "\n\n".join(map(str, troubled))
    assert all(meeting.has_exchanged for meeting in meetings)


def test_what_hole_punching_can_connect_is_connected_directly(meetings: list[Meeting]) -> None:
    punchable = [meeting for meeting in meetings if can_punch(*meeting.kinds)]
    relayed = [meeting for meeting in punchable if not meeting.is_direct]

    assert len(punchable) == 73
    assert not relayed, "\n\n".join(map(str, relayed))


def test_half_of_the_pairs_have_a_usable_path_within_400_ms(meetings: list[Meeting]) -> None:
    times = [meeting.usable_after for meeting in meetings if meeting.usable_after is not None]

    assert statistics.median(times) < MEDIAN_LIMIT


def _print_table(meetings: list[Meeting]) -> None:
    print(f"\n{'caller':>20} {'called':>20}  {'path':<12} {'usable':>7}  {'direct':>7}")
    for meeting in sorted(meetings, key=lambda meeting: [MATRIX.index(kind) for kind in meeting.kinds]):
        caller, called = meeting.kinds
        usable, direct = _ms(meeting.usable_after), _ms(meeting.direct_after)
        print(f"{caller:>20} {called:>20}  {meeting.path_kind:<12} {usable:>7}  {direct:>7}")
    direct = [meeting for meeting in meetings if meeting.is_direct]
    relayed = [meeting for meeting in meetings if not meeting.is_direct]
    for title, group in (("all", meetings), ("direct", direct), ("relayed", relayed)):
        times = sorted(each.usable_after for each in group if each.usable_after is not None)
        if len(times) > 1:
            median, p90 = statistics.median(times), statistics.quantiles(times, n=10)[-1]
            print(
                f"{title}: {len(group)} pairs, usable after {_ms(median)} ms (median), {_ms(p90)} ms (p90),"
                f" {_ms(times[-1])} ms (slowest)"
            )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"
