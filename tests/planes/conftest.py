"""Both planes; the kernel plane where this machine has what it takes."""

from collections.abc import Iterator

import pytest
from planes.rig import PROGRAMS, Rig, rig
from support.native import build_kernel_program, build_mover
from support.requirements import require_root_and_netns, unavailable
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.kernel_object import KernelObject


@pytest.fixture(scope="session")
def kernel_program() -> None:
    """The object is there, and is what its source says."""
    require_root_and_netns()
    build_mover()
    build_kernel_program()


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
