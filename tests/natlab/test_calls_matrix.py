"""Two `peerpath` processes behind every pair of NATs connect, prove who they are, and exchange messages.

One process listens behind each kind; one dials for each pair, and sees its messages come back in order. A
short form takes 36 of the 144 pairs, each kind six times; PEERPATH_LONG=1 takes all of them.
"""

import asyncio
import itertools
import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from natlab.callers import Caller, Event, Person, rendezvous_of, start_relay, uris_of
from natlab.lab import MATRIX, Lab, can_punch

AT_ONCE = 3
MESSAGES = 1000
LONG = bool(os.environ.get("PEERPATH_LONG"))
TURNS = range(12) if LONG else (0, 1, 5)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if LONG else 600)]


@dataclass
class Call:
    kinds: tuple[str, str]
    events: list[Event]
    count: int

    @property
    def connected(self) -> Event | None:
        return next((event for event in self.events if event["event"] == "connected"), None)

    @property
    def last_path(self) -> str:
        paths = [e["path"]["kind"] for e in self.events if e["event"] in ("connected", "path") and e["path"]]
        return paths[-1] if paths else "none"

    @property
    def echoes(self) -> list[int]:
        return [event["index"] for event in self.events if event["event"] == "message"]

    @property
    def trouble(self) -> str:
        failed = [event for event in self.events if event["event"] == "failed"]
        if failed:
            return str(failed[-1].get("text") or failed[-1]["reason"])
        return (
            "" if self.echoes == list(range(self.count)) else f"{len(self.echoes)} of {self.count} came back"
        )


@pytest.fixture(scope="module")
def calls(lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Call]]:
    folder = tmp_path_factory.mktemp("calls")
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        relay = stack.enter_context(start_relay(lab, folder))
        left = {kind: lab.site(kind, delay=0.02) for kind in MATRIX}
        right = {kind: lab.site(kind, delay=0.02) for kind in MATRIX}
        uris, meeting = uris_of(relay), rendezvous_of(relay)
        dialers = {kind: Person(site.host, folder, uris, meeting) for kind, site in left.items()}
        listeners = {kind: Person(site.host, folder, uris, meeting) for kind, site in right.items()}
        keys = [person.key for person in dialers.values()]
        for person in listeners.values():
            stack.callback(person.listen(*keys).stop)
        yield asyncio.run(_dial_all(stack, dialers, listeners))


async def _dial_all(stack: ExitStack, dialers: dict[str, Person], listeners: dict[str, Person]) -> list[Call]:
    room = asyncio.Semaphore(AT_ONCE)

    async def dial(kinds: tuple[str, str]) -> Call:
        async with room:
            caller: Caller = dialers[kinds[0]].dial(listeners[kinds[1]].key, send=MESSAGES, timeout=30)
            stack.callback(caller.stop)
            for _ in range(1200):
                if caller.process.returncode is not None:
                    break
                await asyncio.sleep(0.05)
            return Call(kinds, caller.events, MESSAGES)

    # One pair after the other has other hosts than those before it.
    pairs = [(MATRIX[i], MATRIX[(i + turn) % 12]) for turn, i in itertools.product(TURNS, range(12))]
    return await asyncio.gather(*map(dial, pairs))


def test_every_pair_connects_and_exchanges_its_messages(calls: list[Call]) -> None:
    times = sorted(call.connected["elapsed_ms"] for call in calls if call.connected)
    direct = [call for call in calls if call.last_path not in ("relay", "none")]
    print(
        f"\n{len(times)} of {len(calls)} connected, {len(direct)} directly; {statistics.median(times):.0f} ms"
        f" (median), {times[-1]:.0f} ms (slowest), {sum(len(call.echoes) for call in calls)} messages"
    )
    troubled = [call for call in calls if call.trouble]

    assert len(calls) == 12 * len(TURNS)
    assert not troubled, "\n\n".join(f"{call.kinds}: {call.trouble}" for call in troubled)


def test_no_pair_is_direct_that_theory_says_cannot_be(calls: list[Call]) -> None:
    plain = ("host", "srflx", "prflx")
    wrong = [call.kinds for call in calls if call.last_path in plain and not can_punch(*call.kinds)]

    assert not wrong
