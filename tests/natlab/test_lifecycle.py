"""A lab is quickly there and wholly gone, whatever happens to it, and does not mind another one."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support import netns

from natlab.lab import MATRIX, Lab
from natlab.lab.probe import SILENCE, Probe

TESTS = Path(__file__).parents[1]

pytestmark = [pytest.mark.usefixtures("lab_is_possible"), pytest.mark.alone]


def test_a_topology_is_up_in_under_a_second() -> None:
    """From nothing to the first answers through two NATs."""

    def take() -> float:
        start = time.monotonic()
        with Lab() as lab, Probe(lab.server()) as probe:
            sites = [lab.site("symmetric"), lab.site("full-cone", delay=0.02)]
            for site in sites:
                with site.host.socket() as source:
                    probe.observe(source)
            return time.monotonic() - start

    assert _takes_less_than(1, take)


def test_the_whole_matrix_is_up_in_two_seconds() -> None:
    def take() -> float:
        start = time.monotonic()
        with Lab() as lab:
            sites = [lab.site(name) for name in MATRIX]
            for site in sites:
                site.state()
            return time.monotonic() - start

    assert _takes_less_than(2, take)


def _takes_less_than(seconds: float, take: Callable[[], float]) -> bool:
    """In one of a few tries: the machine may be busy with something else."""
    for _ in range(5):
        took = take()
        print(f"{took * 1000:.0f} ms")
        if took < seconds:
            return True
    return False


def test_nothing_is_left_of_a_closed_lab() -> None:
    devices = _device_names()
    namespaces = _namespaces_of(os.getpid())
    with Lab() as lab:
        host = lab.site("symmetric").host
        program = host.popen(["sleep", "1000"])
        family = [program.pid, *_family(lab)]
        assert len(_namespaces_of(os.getpid())) == len(namespaces) + 3
        assert len(family) == 3
    assert _namespaces_of(os.getpid()) == namespaces
    assert _device_names() == devices
    assert _eventually(lambda: not any(map(psutil.pid_exists, family)))


def test_nothing_is_left_of_a_lab_that_failed_halfway() -> None:
    namespaces = _namespaces_of(os.getpid())
    with contextlib.suppress(_Mishap), Lab() as lab:
        lab.site("linux")
        family = _family(lab)
        raise _Mishap
    assert _namespaces_of(os.getpid()) == namespaces
    assert _eventually(lambda: not any(map(psutil.pid_exists, family)))


def test_nothing_is_left_of_a_killed_run() -> None:
    """Its processes end by themselves, and the next run sweeps its namespaces."""
    program = textwrap.dedent(
        """
        import time
        from natlab.lab import Lab
        lab = Lab()
        site = lab.site("cgnat")
        program = site.host.popen(["sleep", "1000"])
        site.state()
        print(lab.nursery_pid, program.pid, flush=True)
        time.sleep(1000)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        nursery, sleeper = map(int, run.stdout.readline().split())
        family = [sleeper, *_session(nursery)]
        assert len(family) == 4
        namespaces = _namespaces_of(run.pid)
        assert len(namespaces) == 4
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert _eventually(lambda: not any(map(psutil.pid_exists, family)))
    netns.sweep()
    assert _namespaces_of(run.pid) == set()


def test_two_labs_at_once_do_not_mix() -> None:
    """The same addresses and device names, in different namespaces."""
    with Lab() as one, Lab() as other, Probe(one.server()) as one_probe, Probe(other.server()) as other_probe:
        sites = one.site("full-cone"), other.site("symmetric")
        assert sites[0].public_address == sites[1].public_address
        with sites[0].host.socket() as a, sites[1].host.socket() as b:
            one_mapped, other_mapped = one_probe.observe(a), other_probe.observe(b)
            assert one_probe.reaches(a, one_mapped, one_probe.other_both)
            assert not other_probe.reaches(b, other_mapped, other_probe.other_both, SILENCE)


class _Mishap(Exception):
    pass


def _family(lab: Lab) -> set[int]:
    """The processes that the lab itself runs: the nursery and, once they answer, the wires."""
    for site in lab.sites:
        site.state()
    return _session(lab.nursery_pid)


def _session(leader: int) -> set[int]:
    members = set()
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                members.add(pid)
        except ProcessLookupError:
            continue
    return members


def _namespaces_of(pid: int) -> set[str]:
    return {name for name in os.listdir("/run/netns") if name.startswith(f"turnrelay-{pid}-")}


def _device_names() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def _eventually(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
