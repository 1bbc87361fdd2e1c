"""What is compiled of the server, made when a test needs it."""

import functools
import subprocess
import sys
from pathlib import Path

from support.requirements import require_program, unavailable

_SERVER = Path(__file__).parents[2] / "server"


@functools.cache
def build_mover() -> None:
    """The extension is there, and is what its source says; else the test is skipped with the reason."""
    _build("native")


@functools.cache
def build_kernel_program() -> None:
    """The same of the kernel plane's program."""
    require_program("clang")
    _build("bpf")


def _build(folder: str) -> None:
    done = subprocess.run([sys.executable, _SERVER / folder / "build.py"], capture_output=True, text=True)
    if done.returncode:
        unavailable(done.stderr)
