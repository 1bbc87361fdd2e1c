"""Messages: how many a second go from one process to another, each at one end of a veth pair.

Both conversations are there all the time, an idle one takes next to no time, and they take turns.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

from natlab.first_message import Side
from peerpath.identity import Identity
from support.netns import Namespace, Network

from bench import sdk_message_peer
from bench.network import scheduled_seconds

OURS, THEIRS = "peerpath", "aiortc"
SIZES = (100, 1000, 4096, 65_536)
BATCHES = {"as many as go": 0, "64 at a time": 64}
"""How many go before the sender waits for a message back; with none it waits only for room."""
_SMALL = 1000
"""Bytes of the largest messages of which 64 fit into every window."""
_PATIENCE = 30.0
"""Seconds for a connection; for the messages it is this beside the time that they are sent."""
_WARM_UP = 0.5
_SAMPLED_FOR = 3
"""Times as long as others: a sample comes with a tick of the kernel's clock, some 250 in a second."""
_ADDRESSES = "10.91.0.1", "10.91.0.2"

_OF_ENDS = "sender_cpu_us_per_message", "receiver_cpu_us_per_message"

Figures = dict[str, float]


class Pair:
    """A sender and a receiver of one kind, each a process on a core of its own where there are two."""

    def __init__(self, sender: Side, receiver: Side) -> None:
        self._sides = sender, receiver
        self._heard: tuple[asyncio.Queue[dict[str, Any]], ...] = (asyncio.Queue(), asyncio.Queue())
        self._pumps: list[asyncio.Task[None]] = []

    @classmethod
    async def connect(cls, network: "Cable", kind: str) -> Self:
        identities = Identity.generate(), Identity.generate()
        sides = []
        for number, role in enumerate(("sender", "receiver")):
            seed = identities[number].private_key.private_bytes_raw().hex()
            peer = str(identities[1 - number].public_key)
            program = sdk_message_peer.__file__
            sides.append(await Side.start(network.hosts[number], program, kind, role, seed, peer))
            os.sched_setaffinity(sides[-1].pid, {number % (os.cpu_count() or 1)})
        pair = cls(*sides)
        pair._pumps = [asyncio.create_task(pair._pump(number)) for number in (0, 1)]
        try:
            await pair._hear_both(_PATIENCE)
        except BaseException:
            await pair.stop()
            raise
        return pair

    async def converse(self, size: int, seconds: float, batch: int = 0) -> Figures:
        """Sends messages of so many bytes for so many seconds; until the last has come."""
        figures, _ = await self._converse(size, seconds, batch)
        return figures

    async def layers(self, size: int, seconds: float) -> dict[str, Figures]:
        """The same, as many as go, with the CPU of both ends divided among the layers that took it."""
        figures, shares = await self._converse(size, seconds, sampled=True)
        return {
            layer: {
                key: figures[key] * share[layer]
                for key, share in zip(_OF_ENDS, shares, strict=True)
                if layer in share
            }
            for layer in dict.fromkeys(itertools.chain(*shares))
        }

    async def _converse(
        self, size: int, seconds: float, batch: int = 0, *, sampled: bool = False
    ) -> tuple[Figures, list[Figures]]:
        before = [scheduled_seconds(side.pid) for side in self._sides]
        for side in reversed(self._sides):
            side.tell(size=size, seconds=seconds, batch=batch, sampled=sampled)
        sender, receiver = await self._hear_both(seconds + _PATIENCE)
        sending, receiving = (
            scheduled_seconds(side.pid) - was for side, was in zip(self._sides, before, strict=True)
        )
        count = receiver["received"]
        if count != sender["sent"]:
            raise RuntimeError(f"{sender['sent']} messages were sent, {count} arrived")
        took = receiver["ended"] - sender["began"]
        figures = {
            "messages": count,
            "seconds": took,
            "messages_per_second": count / took,
            "cpu_us_per_message": (sending + receiving) / count * 1e6,
            _OF_ENDS[0]: sending / count * 1e6,
            _OF_ENDS[1]: receiving / count * 1e6,
        }
        return figures, [told.get("layers", {}) for told in (sender, receiver)]

    async def stop(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for side in self._sides:
            await side.stop()

    async def _pump(self, number: int) -> None:
        """Carries signals to the other side; what else is told waits here."""
        while True:
            told = await self._sides[number].hear()
            if "signal" in told:
                self._sides[1 - number].tell(**told)
            else:
                self._heard[number].put_nowait(told)

    async def _hear_both(self, within: float) -> list[dict[str, Any]]:
        """One thing of each. AssertionError where a process has ended, TimeoutError."""
        hearing = asyncio.gather(*(queue.get() for queue in self._heard))
        done, _ = await asyncio.wait(
            [hearing, *self._pumps], timeout=within, return_when=asyncio.FIRST_COMPLETED
        )
        if hearing in done:
            return await hearing
        hearing.cancel()
        for pump in done:
            pump.result()
        raise TimeoutError(f"no word from both sides in {within:g} s")


class Cable(Network):
    """Two hosts joined by a veth pair."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts = self.host("sender"), self.host("receiver")
        left, right = (f"{address}/24" for address in _ADDRESSES)
        ends = self.connect(self.hosts[0], left, self.hosts[1], right)
        for host, end in zip(self.hosts, ends, strict=True):
            _wait_until_plugged_in(host, end)


def _wait_until_plugged_in(host: Namespace, interface: str) -> None:
    """Linux takes up to a second to call a new cable plugged in, and its addresses do not count before."""
    deadline = time.monotonic() + _PATIENCE
    while "state UP" not in host.command("ip", "link", "show", "dev", interface):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{interface} is not up")
        time.sleep(0.05)


async def measure(rounds: int, seconds: float) -> AsyncIterator[tuple[str, str, int, Figures]]:
    async with AsyncExitStack() as stack:
        cable = stack.enter_context(Cable())
        pairs = {}
        for who in (OURS, THEIRS):
            pairs[who] = await Pair.connect(cable, who)
            stack.push_async_callback(pairs[who].stop)
            for size in SIZES:
                await pairs[who].converse(size, _WARM_UP)
        for round_ in range(rounds):
            for size, (way, batch) in itertools.product(SIZES, BATCHES.items()):
                if batch and size > _SMALL:
                    continue
                for who in (OURS, THEIRS) if round_ % 2 else (THEIRS, OURS):
                    figures = await pairs[who].converse(size, seconds, batch)
                    yield f"messages of {size} B, {way}", who, round_, figures
            for layer, figures in (await pairs[OURS].layers(_SMALL, _SAMPLED_FOR * seconds)).items():
                yield f"where the time of {_SMALL} B goes", layer, round_, figures
