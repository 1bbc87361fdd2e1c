"""Alice, who dials, and Bob, who is dialed: on this machine's own addresses, with no server asked."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from peerpath import AuditEvent, Connection, Contacts, Identity, PublicKey, Settings, Traversal
from peerpath.signaling import Signaling, SignalingClosed, SignalingError, memory_pair

ALICE, BOB, MALLORY = Identity.generate(), Identity.generate(), Identity.generate()
ALONE = Settings(automatic=False)


class Person(Traversal):
    """A Traversal that remembers its audit log."""

    def __init__(self, identity: Identity, **more: Any) -> None:
        self.events: list[AuditEvent] = []
        super().__init__(identity, **{"settings": ALONE, "audit": self.events.append, **more})

    @property
    def results(self) -> list[str]:
        return [event.result.value for event in self.events]


def alice(**more: Any) -> Person:
    return Person(ALICE, **more)


def bob(**more: Any) -> Person:
    return Person(BOB, **{"authorize": Contacts([ALICE.public_key]), **more})


class Meeting:
    """A rendezvous in memory, for two: each attempt gets a channel of its own."""

    def __init__(self) -> None:
        self._offered: asyncio.Queue[tuple[PublicKey, Signaling]] = asyncio.Queue()

    def channel(self, peer: PublicKey) -> Signaling:
        there, back = memory_pair()
        self._offered.put_nowait((peer, back))
        return there

    async def incoming(self) -> AsyncIterator[tuple[PublicKey, Signaling]]:
        while True:
            yield await self._offered.get()


class OnlyErrors:
    """A channel whose `recv` fails at once, every time; the ten thousandth read ends what never lets go."""

    trickle = True

    def __init__(self) -> None:
        self._reads = 0

    async def send(self, message: bytes) -> None: ...

    async def recv(self) -> bytes:
        self._reads += 1
        if self._reads == 10_000:
            raise SignalingClosed("there is an end to this test")
        raise SignalingError("closed")


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """What the block has begun has ended with it: no task is left, and no socket."""
    tasks, sockets = asyncio.all_tasks(), _sockets()
    yield
    for _ in range(100):
        left, opened = asyncio.all_tasks() - tasks, _sockets() - sockets
        if not left and not opened:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"left behind: {left}, {opened}")


def _sockets() -> set[str]:
    if sys.platform != "linux":
        return set()
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def lose_link(*connections: Connection) -> None:
    """What the owner of the link does when it is dead."""
    for connection in connections:
        tell = connection.on_interrupted
        connection.interrupt("the link is dead")
        assert tell is not None
        tell("the link is dead")


async def until(condition: Any, within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)
