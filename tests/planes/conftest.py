"""Both planes; the kernel plane where this machine has what it takes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planes.rig import PROGRAMS, Rig, rig
from support.native import build_mover
from support.requirements import require_program, require_root_and_netns, unavailable
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.kernel_object import KernelObject

_BUILD = Path(__file__).parents[2] / "server" / "bpf" / "build.py"


@pytest.fixture(scope="session")
def kernel_program() -> None:
    """The object is there, and is what its source says."""
    require_root_and_netns()
    build_mover()
    require_program("clang")
    done = subprocess.run([sys.executable, _BUILD], capture_output=True, text=True)
    if done.returncode:
        unavailable(done.stderr)


@pytest.fixture(scope="session")
def kernel(kernel_program: None) -> Iterator[KernelObject]:
    try:
        loaded = KernelObject(channels=64, buckets=16)
    except KernelPlaneUnavailable as reason:
        unavailable(f"the kernel plane: {reason}")
    yield loaded
    loaded.close()


@pytest.fixture(params=PROGRAMS)
def any_rig(request: pytest.FixtureRequest, kernel: KernelObject) -> Iterator[Rig]:
    """For rules that hold in every mode."""
    with rig(kernel, request.param) as made:
        yield made
