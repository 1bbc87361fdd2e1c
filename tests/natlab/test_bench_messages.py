"""The conversations of `make bench-sdk`, for a moment: every message arrives, and costs something."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.requirements import require_root_and_netns

from bench.sdk_messages import OURS, THEIRS, Cable, Pair


@pytest.fixture
def cable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    require_root_and_netns()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
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
