"""Set-up: how long until there is a path (simulated) and until the first message is there (in the lab)."""

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from natlab.callers import start_relay
from natlab.first_message import ONE_WAY, servers_of, time_to_first_message
from natlab.lab import Lab
from sim.kinds import KINDS
from sim.network import Impairments
from sim.scenario import INTERNET_DELAY, play

OURS, THEIRS = "peerpath", "aiortc"
_NETWORKS = {
    "nothing lost": Impairments(delay=INTERNET_DELAY),
    "a tenth lost": Impairments(delay=INTERNET_DELAY, jitter=0.03, loss=0.1, duplication=0.05),
}
LAB_PAIRS = {
    "NATs that can be punched": ("port-restricted", "linux"),
    "symmetric NATs, relayed": ("symmetric", "symmetric"),
}
_KINDS = {OURS: "ours", THEIRS: "aiortc"}


def simulated(round_: int) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Virtual time from the initiator's start until both have a path, over every pair of accesses.

    Seeds go with rounds: without loss one seed is like another, transaction IDs apart.
    """
    for name, internet in _NETWORKS.items():
        times = sorted(
            play(a=a, b=b, seed=round_ + 1, internet=internet).connected_at for a in KINDS for b in KINDS
        )
        figures = {
            "pairs": len(times),
            "median_ms": 1000 * statistics.median(times),
            "p95_ms": 1000 * times[int(len(times) * 0.95)],
        }
        yield f"path in the simulator, {name}", OURS, figures


def in_lab(rounds: int) -> Iterator[tuple[str, str, int, dict[str, float]]]:
    """Time from the call to the first message at the other side's application, in namespaces."""
    for name, kinds in LAB_PAIRS.items():
        with ExitStack() as stack:
            lab = stack.enter_context(Lab())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnrelay-bench-")))
            relay = stack.enter_context(start_relay(lab, folder))
            sites = lab.site(kinds[0], delay=ONE_WAY), lab.site(kinds[1], delay=ONE_WAY)
            for round_ in range(rounds):
                for who in (OURS, THEIRS) if round_ % 2 else (THEIRS, OURS):
                    took = asyncio.run(time_to_first_message(_KINDS[who], sites, servers_of(relay)))
                    yield f"first message in the lab, {name}", who, round_, {"ms": 1000 * took}
