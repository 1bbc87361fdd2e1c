"""Hard NATs: the SDK gets through them directly, and says why where it does not try. The short form.

`make test-hard` is the long one: a hundred tries of each pair, and their figures.
"""

import asyncio
from collections.abc import Iterator

import pytest

from natlab.hard_nats import PAIRS, PUNISHED, TCP_PAIRS, Try, attempts, relays, summary
from natlab.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HOPELESS = ("symmetric", "linux-random")
ONE_WAY_TCP = (("linux/tcp", "port-restricted"), ("port-restricted/tcp", "open"))


@pytest.fixture(scope="module")
def tries(
    lab_is_possible: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], list[Try]]]:
    """One call of each pair, three pairs at a time."""

    async def run_all() -> dict[tuple[str, str], list[Try]]:
        room = asyncio.Semaphore(3)

        async def run(pair: tuple[str, str]) -> list[Try]:
            async with room:
                return await attempts(lab, uris, pair, 1, patience=8.0 if pair == HOPELESS else 40.0)

        pairs = (*PAIRS, *TCP_PAIRS, *ONE_WAY_TCP, HOPELESS)
        return dict(zip(pairs, await asyncio.gather(*map(run, pairs)), strict=True))

    with Lab() as lab, relays(lab, tmp_path_factory.mktemp("relays")) as uris:
        yield asyncio.run(run_all())


@pytest.mark.parametrize("pair", PAIRS, ids=":".join)
def test_a_direct_path_is_found(tries: dict[tuple[str, str], list[Try]], pair: tuple[str, str]) -> None:
    [found] = tries[pair]
    print(summary([found]))
    assert found.seconds is not None, found.report
    is_foretold = pair[0] in ("symmetric-sequential", "symmetric-block")
    assert found.technique in (("predicted", "birthday") if is_foretold else ("birthday",)), found.report


@pytest.mark.parametrize("pair", [*TCP_PAIRS, *ONE_WAY_TCP], ids=":".join)
def test_where_udp_is_blocked_on_a_side_a_connection_is_opened_directly(
    tries: dict[tuple[str, str], list[Try]], pair: tuple[str, str]
) -> None:
    [found] = tries[pair]
    print(summary([found]))
    assert found.seconds is not None, found.report
    assert found.technique == "tcp", found.report


def test_a_nat_that_shuts_out_early_packets_is_passed_since_they_end_on_the_way(
    tmp_path_factory: pytest.TempPathFactory, lab_is_possible: None
) -> None:
    pair, count = PUNISHED[0], 3

    async def run(*options: str, patience: float) -> int:
        tries = await attempts(lab, uris, pair, count, patience=patience, options=options)
        print(*options, summary(tries))
        return sum(each.seconds is not None for each in tries)

    async def run_both() -> tuple[int, int]:
        return await asyncio.gather(run(patience=20), run("--no-primer", patience=5))

    with Lab() as lab, relays(lab, tmp_path_factory.mktemp("punished")) as uris:
        primed, unprimed = asyncio.run(run_both())
    assert primed >= 2
    assert unprimed <= 1


def test_hard_against_hard_is_left_to_the_relay_with_the_reason(
    tries: dict[tuple[str, str], list[Try]],
) -> None:
    [left_out] = tries[HOPELESS]
    assert left_out.seconds is None
    assert "not attempted, both NATs give each destination another port" in left_out.report
