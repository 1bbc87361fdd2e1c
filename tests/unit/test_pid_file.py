"""The file by which commands find the relay that runs."""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from turnrelay.pid_file import PidFile, Running, running_relay

PROCESS = os.getpid()


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """The file of a relay that runs; what stands in it is up to the test."""
    with (tmp_path / "pid").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Path(file.name)


async def test_a_command_that_looks_while_the_relay_starts_does_not_keep_it_without_its_file(tmp_path):
    with (tmp_path / "pid").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        asyncio.get_running_loop().call_later(0.02, fcntl.flock, looking, fcntl.LOCK_UN)
        taken = await PidFile.take(tmp_path, "127.0.0.1:9641")
    assert taken is not None
    with closing(taken):
        assert running_relay(tmp_path) == Running(PROCESS, "", "127.0.0.1:9641")


async def test_a_file_that_another_relay_has_is_left_to_it(tmp_path, locked):
    locked.write_text("42\n\n\n")
    assert await PidFile.take(tmp_path, None) is None
    assert running_relay(tmp_path).process == 42


async def test_what_a_version_without_an_http_line_reads_and_writes_is_in_its_place(tmp_path):
    taken = await PidFile.take(tmp_path, "127.0.0.1:9641")
    assert taken is not None
    with closing(taken):
        taken.tell("the reason")
        assert (tmp_path / "pid").read_text().split("\n")[:2] == [str(PROCESS), "1 the reason"]
        (tmp_path / "pid").write_text("42\n1 the reason\n")
        assert running_relay(tmp_path) == Running(42, "1 the reason", "")
