"""What this machine lacks: a skip with its reason for a person, a failure where everything is required."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRE_ALL = "TURNRELAY_REQUIRE_ALL"
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


def require_root_and_netns() -> None:
    """Network namespaces need root, iproute2 and a kernel that lets this process make them."""
    if os.geteuid() != 0:
        unavailable("network namespaces need root")
    require_program("ip")
    problem = _netns_problem()
    if problem:
        unavailable(f"this machine makes no network namespaces: {problem}")


def _debian_package_of(program: str) -> str:
    for line in DEBIAN_PACKAGES.read_text().splitlines():
        match line.split():
            case [name, package] if name == program:
                return package
    # Else CI would lack on a fresh machine what this one happens to have.
    raise AssertionError(f"{program} is used by a test and is not in {DEBIAN_PACKAGES}")


@cache
def _netns_problem() -> str:
    """Empty when a namespace with a veth pair can be made; it is gone with the process that tried it."""
    attempt = ["unshare", "--net", "ip", "link", "add", "type", "veth"]
    done = subprocess.run(attempt, capture_output=True, text=True, timeout=20)
    return done.stderr.strip() if done.returncode else ""
