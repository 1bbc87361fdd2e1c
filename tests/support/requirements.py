"""What this machine lacks: a skip with its reason for a person, a failure where everything is required."""

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from support.netns import Network

REQUIRE_ALL = "REQUIRE_ALL_PROGRAMS"
DEBIAN_PACKAGES = Path(__file__).parents[2] / ".ci" / "debian-packages"


def unavailable(reason: str) -> NoReturn:
    """End the test: it cannot run here. In CI, where nothing may be missing, that is a failure."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason} ({REQUIRE_ALL}=1 forbids a skip)", pytrace=False)
    pytest.skip(reason)


def require_program(name: str) -> str:
    """The path of a program, or the end of the test with the Debian package to install."""
    package = _debian_package_of(name)
    path = shutil.which(name)
    if path is None:
        unavailable(f"{name} is not installed: apt-get install {package}")
    return path


def require_library(name: str) -> None:
    """A shared library that a program of a Python package links to, and the package does not bring."""
    package = _debian_package_of(name)
    try:
        ctypes.CDLL(name)
    except OSError:
        unavailable(f"{name} is not installed: apt-get install {package}")


def require_root_and_netns() -> None:
    """Network namespaces need root, iproute2 and a kernel that lets this process make them."""
    if os.geteuid() != 0:
        unavailable("network namespaces need root")
    require_program("ip")
    problem = _netns_problem()
    if problem:
        unavailable(f"this machine makes no network namespaces: {problem}")


def _debian_package_of(needed: str) -> str:
    for line in DEBIAN_PACKAGES.read_text().splitlines():
        match line.split():
            case [name, package] if name == needed:
                return package
    # Else CI would lack on a fresh machine what this one happens to have.
    raise AssertionError(f"{needed} is used by a test and is not in {DEBIAN_PACKAGES}")


@cache
def _netns_problem() -> str:
    try:
        with Network() as network:
            network.connect(network.host("probe"), "10.77.0.1/24", network.host("peer"), "10.77.0.2/24")
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    return ""
