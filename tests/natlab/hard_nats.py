"""Hard NATs with the whole SDK: tries, one call each, and what the formula foretold.

The long form, as `make test-hard` runs it:

    python -m natlab.hard_nats [--count 100] [--at-once 3] [--no-primer] [HARD:EASY ...]

A kind with "/tcp" behind it lets no UDP through, so that connections are opened from both sides. It prints
for each pair of kinds how many of its tries got a direct path within 15 s of the call, and how fast.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer
from natlab.calls import exchange
from natlab.lab import Lab, Site

PAIRS = (
    ("symmetric-sequential", "port-restricted"),
    ("symmetric-sequential", "linux"),
    ("symmetric-sequential", "symmetric-sequential"),
    ("symmetric", "port-restricted"),
    ("symmetric", "linux"),
    ("symmetric-block", "linux"),
    ("linux-random", "port-restricted"),
)
PUNISHED = (("symmetric-sequential", "punishing"), ("symmetric", "punishing"))
"""One NAT shuts out who sends before it was sent to; the first packets must end on the way."""
TCP_PAIRS = (("port-restricted/tcp", "port-restricted/tcp"), ("linux/tcp", "linux/tcp"))
WANTED = {"symmetric-sequential": 0.95, "symmetric-block": 0.95} | {pair[0]: 0.95 for pair in TCP_PAIRS}
"""The share of tries that must succeed; of all others:"""
WANTED_OF_RANDOM = 0.90
ONE_WAY = 0.02
HOPS = 3  # from each site to the internet, so that a packet for five hops does not get to the other site
PATIENCE = 15.0


@dataclass
class Try:
    """One call. `seconds` from the call to the direct path on both sides; None where that took too long."""

    hard: str
    easy: str
    seconds: float | None
    technique: str
    chance: float
    report: str


@contextmanager
def relays(lab: Lab, folder: Path) -> Iterator[list[str]]:
    """Two servers, so that a socket can be sampled from two addresses; the first one relays, too."""
    access = Access(ice_peer.USER, ice_peer.PASSWORD)
    uris: list[str] = []
    with ExitStack() as stack:
        for number in range(2):
            server = lab.server()
            place = folder / str(number)
            place.mkdir()
            site = RelaySite.prepare(place, server.address, namespace=server.namespace)
            stack.enter_context(TurnRelayServer(site, access))
            uris.append(f"stun:{server.address}:{TurnRelayServer.port}")
        relay = uris[0].replace("stun:", "turn:")
        yield [*uris, f"{relay}?transport=udp", f"{relay}?transport=tcp"]


async def attempts(
    lab: Lab,
    uris: list[str],
    pair: tuple[str, str],
    count: int,
    at_once: int = 1,
    patience: float = PATIENCE,
    options: Sequence[str] = (),
) -> list[Try]:
    """Calls between two new sites, from either side in turns; `at_once` of them share the two NATs."""
    sites = {"hard": _site(lab, pair[0]), "easy": _site(lab, pair[1])}
    room = asyncio.Semaphore(at_once)
    async with exchange(sites, uris, "--punch", "--tcp", *options, delay=2 * ONE_WAY) as board:

        async def one(number: int) -> Try:
            names = ("hard", "easy") if number % 2 else ("easy", "hard")
            async with room:
                async with board.call(*names) as call:
                    await call.until(lambda call: call.is_direct and call.has_heard, patience)
                seconds = call.direct_after
                path, punch = call.caller.path or {}, call.caller.punch or {}
                technique, chance = path.get("technique", "none"), punch.get("chance", 0.0)
                if pair[0].endswith("/tcp"):
                    # RFC 5382 REQ-1 and REQ-2: NATs that map independently of the endpoint always let it.
                    technique, chance = path.get("transport", "none"), 1.0
                return Try(*pair, seconds, technique, chance, str(call))

        return await asyncio.gather(*map(one, range(count)))


def _site(lab: Lab, kind: str) -> Site:
    name, _, passage = kind.partition("/")
    return lab.site(name, delay=ONE_WAY, hops=HOPS, passage="tcp" if passage else None)


def wanted(pair: tuple[str, str]) -> float:
    return WANTED.get(pair[0], WANTED_OF_RANDOM)


def summary(tries: Sequence[Try]) -> str:
    times = sorted(each.seconds for each in tries if each.seconds is not None)
    chance = statistics.mean(each.chance for each in tries)
    line = f"{tries[0].hard:>22} {tries[0].easy:>16}  {len(times):>4}/{len(tries):<4} formula {chance:6.1%}"
    if times:
        line += f"  median {statistics.median(times):5.2f} s, slowest {times[-1]:5.2f} s"
    techniques = {each.technique for each in tries if each.seconds is not None}
    return f"{line}  {', '.join(sorted(techniques))}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Tries at hard NATs in the lab.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--no-primer", action="store_true", help="first packets go all the way")
    parser.add_argument("pairs", nargs="*", metavar="HARD:EASY")
    arguments = parser.parse_args(argv)
    pairs = [tuple(pair.split(":")) for pair in arguments.pairs] or [*PAIRS, *PUNISHED, *TCP_PAIRS]
    options = ["--no-primer"] if arguments.no_primer else []
    missed = 0
    with Lab() as lab, tempfile.TemporaryDirectory() as folder, relays(lab, Path(folder)) as uris:
        for pair in pairs:
            # Ports in sequence are foretold for one call at a time: the others would take them away.
            at_once = arguments.at_once if wanted(pair) == WANTED_OF_RANDOM else 1
            tries = asyncio.run(attempts(lab, uris, pair, arguments.count, at_once, options=options))
            print(summary(tries), flush=True)
            succeeded = sum(each.seconds is not None for each in tries)
            missed += succeeded < wanted(pair) * len(tries)
            for failed in itertools.islice((each for each in tries if each.seconds is None), 2):
                print(failed.report)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
