"""What is compiled of the server, made when a test needs it."""

import functools
import subprocess
import sys
from pathlib import Path

from support.requirements import unavailable

_BUILD = Path(__file__).parents[2] / "server" / "native" / "build.py"


@functools.cache
def build_mover() -> None:
    """The extension is there, and is what its source says; else the test is skipped with the reason."""
    done = subprocess.run([sys.executable, _BUILD], capture_output=True, text=True)
    if done.returncode:
        unavailable(done.stderr)
