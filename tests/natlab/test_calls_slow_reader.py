"""A reader that takes 20 of the 100 messages a second slows the writer down; neither side's memory grows.

A short form; PEERPATH_LONG=1 makes it ten minutes.
"""

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from natlab.callers import Caller, Person, rendezvous_of, start_relay, uris_of
from natlab.lab import Lab

SECONDS = 600.0 if os.environ.get("PEERPATH_LONG") else 40.0
PAUSE = 0.05  # seconds that the reader takes for a message
WINDOW = 1_048_576  # bytes that may wait for the reader
SIZE = 4000
GROWTH_KB = 4096

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 120)]


def resident_kb(caller: Caller) -> int:
    status = Path(f"/proc/{caller.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def test_a_slow_reader_stops_the_writer_and_memory_stays_flat(lab: Lab, tmp_path: Path) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(start_relay(lab, tmp_path))
        left, right = lab.site("port-restricted", delay=0.01), lab.site("linux", delay=0.01)
        alice, bob = (
            Person(site.host, tmp_path, uris_of(relay), rendezvous_of(relay)) for site in (left, right)
        )
        listener = bob.listen(alice.key, echo=False, more=["--slow", str(PAUSE)])
        stack.callback(listener.stop)
        more = ["--rate", "100", "--patience", "3600"]
        dialer = alice.dial(bob.key, send=100_000, size=SIZE, more=more)
        stack.callback(dialer.stop)
        listener.wait_for("message", 90)
        began = time.monotonic()
        samples: list[tuple[int, int]] = []
        while time.monotonic() - began < SECONDS:
            time.sleep(SECONDS / 40)
            samples.append((resident_kb(dialer), resident_kb(listener)))
        taken = len(listener.of("message"))

    # The window is full after the first third; from then on nothing may grow.
    settled, last = samples[len(samples) * 2 // 5], samples[-1]
    print(
        f"\n{SECONDS:.0f} s: {taken} messages taken, {100 * SECONDS:.0f} offered; "
        f"dialer {settled[0]} to {last[0]} kB, "
        f"listener {settled[1]} to {last[1]} kB"
    )
    assert taken * SIZE + WINDOW < 100 * SECONDS * SIZE * 0.75  # the writer was held back
    assert last[0] - settled[0] < GROWTH_KB
    assert last[1] - settled[1] < GROWTH_KB
