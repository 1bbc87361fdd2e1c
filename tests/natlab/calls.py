"""Calls between hosts of the lab that each run ice_peer.py: their signaling, and what they say."""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from natlab import ice_peer
from natlab.lab import Site

Message = dict[str, Any]


@dataclass
class Side:
    """What a host has said of one session."""

    description: Message | None = None
    """What it has told the other side of itself."""
    began: float | None = None
    heard: float | None = None
    path: Message | None = None
    paths: list[Message] = field(default_factory=list)
    plan: Message | None = None
    punch: Message | None = None
    """How the punching ended, in the words of its report."""
    report: str = ""
    ended: bool = False
    failed: str = ""

    def learn(self, message: Message) -> None:
        event = message["event"]
        if event in ("began", "heard"):
            setattr(self, event, message["at"])
        elif event == "path":
            self.path = message
            self.paths.append(message)
        elif event in ("plan", "punch"):
            setattr(self, event, message)
        elif event in ("ended", "failed"):
            self.ended = True
            self.report, self.failed = message.get("report", ""), message.get("reason", "")

    @property
    def is_direct(self) -> bool:
        return self.path is not None and not self.path["relayed"]


@dataclass
class Call:
    """One session of two hosts: the caller first."""

    caller: Side = field(default_factory=Side)
    called: Side = field(default_factory=Side)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.caller, self.called

    @property
    def is_direct(self) -> bool:
        return self.caller.is_direct and self.called.is_direct

    @property
    def direct_after(self) -> float | None:
        """Seconds from the call until both sides sent directly."""
        if not self.is_direct or self.caller.began is None:
            return None
        return max(_since(side) for side in self.sides) - self.caller.began

    @property
    def has_heard(self) -> bool:
        return all(side.heard is not None for side in self.sides)

    async def until(self, done: Callable[["Call"], bool], within: float) -> bool:
        """Whether it came to that, or to the end of a side, in time."""
        try:
            async with asyncio.timeout(within):
                while not done(self):
                    if any(side.failed for side in self.sides):
                        return False
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return True

    def __str__(self) -> str:
        return "\n".join(f"{side.failed}{side.path} {side.punch}\n{side.report}" for side in self.sides)


def _since(side: Side) -> float:
    """When its data began to go directly, for good."""
    since = 0.0
    for path in reversed(side.paths):
        if path["relayed"]:
            break
        since = path["at"]
    return since


class Exchange:
    """Where the hosts call. `delay` is the way of a message from one to the other, in seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._calls: list[tuple[Call, tuple[str, str]]] = []
        self._arrived = asyncio.Event()
        self._listening: set[asyncio.Task[None]] = set()

    def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listening.add(asyncio.create_task(self._listen(reader, writer)))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = json.loads(await reader.readline())["name"]
        self._writers[name] = writer
        self._arrived.set()
        while line := await reader.readline():
            self._hear(name, json.loads(line))

    def _hear(self, name: str, message: Message) -> None:
        call, names = self._calls[message["session"]]
        index = names.index(name)
        if message["event"] == "signal":
            call.sides[index].description = message.get("description", call.sides[index].description)
            other = names[1 - index]
            loop = asyncio.get_running_loop()
            loop.call_later(self._delay, self._tell, other, message["session"], message)
        else:
            call.sides[index].learn(message)
            call.changed.set()

    def _tell(self, name: str, session: int, message: Message) -> None:
        self._writers[name].write(json.dumps({**message, "session": session}).encode() + b"\n")

    async def wait_for(self, *names: str) -> None:
        async with asyncio.timeout(60):
            while not self._writers.keys() >= set(names):
                self._arrived.clear()
                await self._arrived.wait()

    @asynccontextmanager
    async def call(self, caller: str, called: str) -> AsyncIterator[Call]:
        """Begins a session; it is ended with the block, and the reports of both sides are in it then."""
        session, call = len(self._calls), Call()
        self._calls.append((call, (caller, called)))
        self._tell(caller, session, {"do": "call"})
        yield call
        for name in (caller, called):
            self._tell(name, session, {"do": "end"})
        async with asyncio.timeout(60):
            while not all(side.ended for side in call.sides):
                call.changed.clear()
                await call.changed.wait()

    async def hang_up(self) -> None:
        for writer in self._writers.values():
            writer.close()
        await asyncio.gather(*self._listening)


@asynccontextmanager
async def exchange(
    sites: dict[str, Site], uris: list[str], *options: str, delay: float = 0.04
) -> AsyncIterator[Exchange]:
    """A peer on the host of each site, by its name; `options` are those of ice_peer.py."""
    with tempfile.TemporaryDirectory(prefix="calls-") as folder:
        path = str(Path(folder) / "board")
        made = Exchange(delay)
        async with await asyncio.start_unix_server(made.answer, path):
            for name, site in sites.items():
                site.host.popen([sys.executable, "-P", ice_peer.__file__, path, name, *options, *uris])
            await made.wait_for(*sites)
            try:
                yield made
            finally:
                await made.hang_up()
