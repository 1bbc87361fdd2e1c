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
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer
from natlab.lab import MATRIX, Lab, can_punch

ONE_WAY = 0.02
SIGNALING = 0.04  # seconds for a message from one peer to the other, each 20 ms from the signaling server
AT_ONCE = 4  # pairs; more of them keep each other's packets waiting on two cores
PATIENCE = 10.0  # seconds for a pair to connect, and again to reach its best path
MEDIAN_LIMIT = 0.4

# One pair after the other has other hosts than those before it.
PAIRS = [
    (MATRIX[left], MATRIX[(left + turn) % len(MATRIX)])
    for turn, left in itertools.product(range(len(MATRIX)), repeat=2)
]

Message = dict[str, Any]


@dataclass
class Side:
    """What a host has said of one session."""

    began: float | None = None
    heard: float | None = None
    path: Message | None = None
    since: float | None = None
    """When its data began to go directly, or over a relay, as it does now."""
    exchanged: bool = False
    report: str = ""
    ended: bool = False
    failed: str = ""

    def learn(self, message: Message) -> None:
        event, at = message["event"], message["at"]
        if event == "began":
            self.began = at
        elif event == "heard":
            self.heard = at
        elif event == "path":
            if self.path is None or message["relayed"] != self.path["relayed"]:
                self.since = at
            self.path = message
        elif event == "exchanged":
            self.exchanged = True
        elif event in ("ended", "failed"):
            self.ended = True
            self.report, self.failed = message.get("report", ""), message.get("reason", "")


@dataclass
class Meeting:
    """One pair: the caller behind `kinds[0]`, the called behind `kinds[1]`."""

    kinds: tuple[str, str]
    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))
    trouble: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def usable_after(self) -> float | None:
        """Seconds from the call until the application was heard on both sides."""
        began, heard = self.sides[0].began, [side.heard for side in self.sides]
        return None if began is None or None in heard else max(heard) - began

    @property
    def is_direct(self) -> bool:
        return all(side.path is not None and not side.path["relayed"] for side in self.sides)

    @property
    def direct_after(self) -> float | None:
        """Seconds from the call until both sides sent directly, for good."""
        return max(side.since for side in self.sides) - self.sides[0].began if self.is_direct else None

    @property
    def is_nominated(self) -> bool:
        return all(side.path is not None and side.path["nominated"] for side in self.sides)

    @property
    def has_exchanged(self) -> bool:
        return all(side.exchanged for side in self.sides)

    @property
    def path_kind(self) -> str:
        """As the caller sees it, such as "srflx-prflx"; "relay" wherever one is in it."""
        path = self.sides[0].path
        if path is None:
            return "none"
        return "{local}-{remote}".format(**path) if self.is_direct else "relay"

    def __str__(self) -> str:
        sides = zip(self.kinds, self.sides, strict=True)
        reports = (f"{kind}: {side.failed}{side.report}" for kind, side in sides)
        return "\n".join([f"{' to '.join(self.kinds)}: {self.trouble or 'fine'}", *reports])


class Computer:
    """The process on one host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    def tell(self, session: int, message: Message) -> None:
        self._writer.write(json.dumps({**message, "session": session}).encode() + b"\n")


class Switchboard:
    """Where the processes call: forwards what they signal, and learns what has become of each pair."""

    def __init__(self) -> None:
        self._computers: dict[str, Computer] = {}
        self._meetings: list[Meeting] = []
        self._places: list[tuple[Computer, Computer]] = []
        self._arrived = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = json.loads(await reader.readline())["name"]
        computer = self._computers[name] = Computer(reader, writer)
        self._arrived.set()
        while line := await reader.readline():
            self._heard(computer, json.loads(line))
        writer.close()

    def _heard(self, computer: Computer, message: Message) -> None:
        session = message["session"]
        meeting, places = self._meetings[session], self._places[session]
        index = places.index(computer)
        if message["event"] == "signal":
            forward = places[1 - index].tell
            asyncio.get_running_loop().call_later(SIGNALING, forward, session, message)
        else:
            meeting.sides[index].learn(message)
            meeting.changed.set()

    async def wait_for_computers(self, count: int) -> None:
        while len(self._computers) < count:
            self._arrived.clear()
            await self._arrived.wait()

    async def connect(self, kinds: tuple[str, str]) -> Meeting:
        """One pair, from the call to the end."""
        meeting, session = Meeting(kinds), len(self._meetings)
        places = self._computers[f"left {kinds[0]}"], self._computers[f"right {kinds[1]}"]
        self._meetings.append(meeting)
        self._places.append(places)
        places[0].tell(session, {"do": "call"})
        try:
            await self._until(meeting, "usable_after", "no datagram came through both ways")
            await self._until(meeting, "is_nominated", "nothing was nominated")
            if can_punch(*kinds):
                await self._until(meeting, "is_direct", "the path stays relayed")
            for computer in places:
                computer.tell(session, {"do": "exchange"})
            await self._until(meeting, "has_exchanged", "the path does not carry data both ways")
        except TimeoutError as error:
            meeting.trouble = str(error)
        for computer in places:
            computer.tell(session, {"do": "end"})
        async with asyncio.timeout(PATIENCE):
            while not all(side.ended for side in meeting.sides):
                await self._change(meeting)
        return meeting

    async def _until(self, meeting: Meeting, what: str, otherwise: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while getattr(meeting, what) in (None, False):
                    if any(side.failed for side in meeting.sides):
                        raise TimeoutError("a side has failed")
                    await self._change(meeting)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"{otherwise} within {PATIENCE:g} s") from None

    async def _change(self, meeting: Meeting) -> None:
        meeting.changed.clear()
        await meeting.changed.wait()


async def connect_all(lab: Lab, uris: list[str], socket_path: str) -> list[Meeting]:
    switchboard = Switchboard()
    server = await asyncio.start_unix_server(switchboard.answer, socket_path)
    async with server:
        for shore, kind in itertools.product(("left", "right"), MATRIX):
            site = lab.site(kind, delay=ONE_WAY)
            argv = [sys.executable, "-P", ice_peer.__file__, socket_path, f"{shore} {kind}", *uris]
            site.host.popen(argv)
        await asyncio.wait_for(switchboard.wait_for_computers(2 * len(MATRIX)), 60)
        room = asyncio.Semaphore(AT_ONCE)

        async def take_turn(kinds: tuple[str, str]) -> Meeting:
            async with room:
                return await switchboard.connect(kinds)

        return await asyncio.gather(*map(take_turn, PAIRS))


@pytest.fixture(scope="module")
def meetings(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Meeting]]:
    with ExitStack() as stack:
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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_pair_connects_and_carries_data_both_ways(meetings: list[Meeting]) -> None:
    _print_table(meetings)

    assert len({meeting.kinds for meeting in meetings}) == 144
    troubled = [meeting for meeting in meetings if meeting.trouble]
    assert not troubled, "\n\n".join(map(str, troubled))
    assert all(meeting.has_exchanged for meeting in meetings)


@pytest.mark.slow
def test_what_hole_punching_can_connect_is_connected_directly(meetings: list[Meeting]) -> None:
    punchable = [meeting for meeting in meetings if can_punch(*meeting.kinds)]
    relayed = [meeting for meeting in punchable if not meeting.is_direct]

    assert len(punchable) == 73
    assert not relayed, "\n\n".join(map(str, relayed))


@pytest.mark.slow
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
