"""For every suite: nothing of a killed run stays behind, and a failure shows what the programs printed."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings
from support import netns, processes

# Hypothesis would fail an example that takes 200 ms, which on a busy machine any may.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_sessionstart() -> None:
    if os.geteuid() == 0:
        netns.sweep()


@pytest.fixture(autouse=True)
def _forget_stopped_processes() -> None:
    processes.started[:] = [process for process in processes.started if process.returncode is None]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for process in processes.started:
            title = f"{process.name} (pid {process.pid})"
            report.sections.append((title, f"$ {' '.join(process.argv)}\n{process.output()[-20_000:]}"))
    return report
