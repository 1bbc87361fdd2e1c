"""The conversations of `make bench-sdk`, for a moment: every message arrives, and costs something."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.requirements import require_root_and_netns

from bench.sdk_messages import OURS, THEIRS, Cable, Pair

# It measures; whose time a sample shows depends on what else runs.
pytestmark = pytest.mark.alone


@pytest.fixture
def cable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    require_root_and_netns()
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tests, tests.parent))))
    with Cable() as cable:
        yield cable


@pytest.mark.parametrize("kind", [OURS, THEIRS])
async def test_all_messages_that_were_sent_arrive_in_order(cable: Cable, kind: str) -> None:
    pair = await Pair.connect(cable, kind)
    try:
        for batch in (0, 16):
            figures = await pair.converse(1000, 0.1, batch)
            assert figures["messages"] > 0
            assert figures["cpu_us_per_message"] > 0
    finally:
        await pair.stop()


async def test_samples_tell_whose_time_it_was(cable: Cable) -> None:
    pair = await Pair.connect(cable, OURS)
    try:
        layers = await pair.layers(1000, 0.5)
    finally:
        await pair.stop()
    for key in ("sender_cpu_us_per_message", "receiver_cpu_us_per_message"):
        by_time = sorted(layers, key=lambda layer: layers[layer].get(key, 0))
        assert by_time[-1] == "aioquic: packets, acknowledgements, loss"
        assert sum(layers[layer].get(key, 0) for layer in layers) > 1
