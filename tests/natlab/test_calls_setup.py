"""From the call to the first application message, beside aioice with aiortc's DTLS on the same two hosts.

How the time is taken is told in natlab/first_message.py. Rounds of the two are interleaved.
"""

import asyncio
import statistics
from contextlib import ExitStack
from pathlib import Path

import pytest

from natlab.callers import start_relay
from natlab.first_message import ONE_WAY, servers_of, time_to_first_message
from natlab.lab import Lab

ROUNDS = 5

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kinds", [("port-restricted", "linux"), ("symmetric", "symmetric")])
def test_the_first_message_arrives_sooner_than_with_aiortc(
    lab: Lab, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(start_relay(lab, tmp_path))
        sites = lab.site(kinds[0], delay=ONE_WAY), lab.site(kinds[1], delay=ONE_WAY)
        servers = servers_of(relay)
        times: dict[str, list[float]] = {"ours": [], "aiortc": []}
        for _ in range(ROUNDS):
            for kind, found in times.items():
                found.append(asyncio.run(time_to_first_message(kind, sites, servers)))
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    told = ", ".join(
        f"{kind} {medians[kind] * 1000:.0f} ms (from {min(found) * 1000:.0f} to {max(found) * 1000:.0f})"
        for kind, found in times.items()
    )
    print(f"\n{kinds}: {told}")
    assert medians["ours"] < medians["aiortc"]
