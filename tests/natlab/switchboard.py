"""Where the processes of ice_peer.py call: forwards what they signal, learns what becomes of each pair."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

SIGNALING = 0.04  # seconds for a message from one peer to the other, each 20 ms from the signaling server
PATIENCE = 10.0  # seconds for a pair to connect, and again to reach its best path

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

    def hang_up(self) -> None:
        self._writer.close()


class Switchboard:
    """Where the processes call: forwards what they signal, and learns what has become of each pair."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._computers: dict[str, Computer] = {}
        self._meetings: list[Meeting] = []
        self._places: list[tuple[Computer, Computer]] = []
        self._arrived = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()

    def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answering.add(asyncio.create_task(self._listen(reader, writer)))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = json.loads(await reader.readline())["name"]
        computer = self._computers[name] = Computer(reader, writer)
        self._arrived.set()
        while line := await reader.readline():
            self._heard(computer, json.loads(line))

    async def hang_up(self) -> None:
        """The processes end when nobody listens to them any more."""
        for computer in self._computers.values():
            computer.hang_up()
        await asyncio.gather(*self._answering)

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

    async def connect(self, kinds: tuple[str, str], *, direct: bool) -> Meeting:
        """One pair, from the call to the end. `direct`: it is to be waited for a path without a relay."""
        meeting, session = Meeting(kinds), len(self._meetings)
        places = self._computers[f"left {kinds[0]}"], self._computers[f"right {kinds[1]}"]
        self._meetings.append(meeting)
        self._places.append(places)
        places[0].tell(session, {"do": "call"})
        try:
            await self._until(meeting, "usable_after", "no datagram came through both ways")
            await self._until(meeting, "is_nominated", "nothing was nominated")
            if direct:
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
            async with asyncio.timeout(self._patience):
                while getattr(meeting, what) in (None, False):
                    if any(side.failed for side in meeting.sides):
                        raise TimeoutError("a side has failed")
                    await self._change(meeting)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"{otherwise} within {self._patience:g} s") from None

    async def _change(self, meeting: Meeting) -> None:
        meeting.changed.clear()
        await meeting.changed.wait()
