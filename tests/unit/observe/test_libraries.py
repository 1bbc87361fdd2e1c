"""What libraries complain of: a line of our log, without what is nobody's business."""

import asyncio
import logging
import warnings

import pytest
from support.logs import logged, records
from turnrelay.observe.libraries import LibraryLines

CLIENT = "198.51.100.7"


def complain(logger: str, number: int = 0) -> None:
    try:
        raise ValueError(f"{CLIENT} sent {number}")
    except ValueError:
        logging.getLogger(logger).exception("Error handling request from %s", CLIENT)


def test_a_complaint_is_one_line_that_names_nobody():
    with logged() as stream:
        complain("aiohttp.server")
    [line] = records(stream.getvalue())
    assert (line["level"], line["event"]) == ("error", "Error handling request from %s")
    assert line["source"] == "aiohttp.server"
    assert "in complain" in line["exception"]
    assert line["exception"].endswith("ValueError")
    assert CLIENT not in stream.getvalue()


def test_the_operator_who_asks_is_told_all():
    with logged("debug") as stream:
        complain("aiohttp.server")
    [line] = records(stream.getvalue())
    assert line["event"] == f"Error handling request from {CLIENT}"
    assert f"{CLIENT} sent 0" in line["exception"]


def test_a_flood_of_complaints_is_a_line_a_minute_and_hides_no_other():
    times = iter([0.0, 1.0, 59.9, 60.0, 60.1])
    with logged() as stream:
        lines = LibraryLines(with_identities=False, clock=lambda: next(times))
        logging.basicConfig(handlers=[lines], force=True)
        for number in range(4):
            complain("aiohttp.server", number)
        logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert [line["source"] for line in records(stream.getvalue())] == [
        *("aiohttp.server", "aiohttp.server"),
        "asyncio",
    ]


async def test_a_task_that_fails_unseen_is_seen_here():
    async def fail() -> None:
        raise KeyError(CLIENT)

    with logged() as stream:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old ways", stacklevel=1)
    [line, warning] = records(stream.getvalue())
    assert line["event"] == "Task exception was never retrieved"
    assert line["exception"].endswith("KeyError")
    assert (warning["level"], warning["source"]) == ("warning", "py.warnings")
    assert "old ways" in warning["event"]
    assert CLIENT not in stream.getvalue()


@pytest.mark.parametrize(("level", "count"), [("error", 1), ("warning", 2)])
def test_the_level_of_the_log_is_the_level_of_complaints(level, count):
    with logged(level) as stream:
        logging.getLogger("asyncio").warning("a warning")
        logging.getLogger("asyncio").error("an error")
        logging.getLogger("asyncio").info("nothing for anybody")
    assert len(records(stream.getvalue())) == count
