"""Compiles mover.c, which moves packets in userspace: `python build.py`, or from the wheel's build hook."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROGRAM = FOLDER / "mover.c"
SOURCES = [PROGRAM, *sorted(FOLDER.glob("*.h"))]
MODULE = FOLDER.parent / "turnrelay" / "relay" / "_mover.abi3.so"
_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-cast-function-type", "-Wno-missing-field-initializers"]


class CannotBuild(Exception):
    """What is missing, or the compiler's words."""


def build(target: Path = MODULE) -> bool:
    """Makes the module unless it is newer than its sources; whether it was made.

    CC names the compiler, CFLAGS what it is told besides, sanitizers for example.
    """
    if target.exists() and all(target.stat().st_mtime >= source.stat().st_mtime for source in SOURCES):
        return False
    if platform.system() != "Linux":
        raise CannotBuild("it is for Linux: recvmmsg and epoll")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise CannotBuild("a C compiler is not installed (apt-get install gcc)")
    headers = sysconfig.get_paths()["include"]
    if not Path(headers, "Python.h").exists():
        raise CannotBuild(f"there is no Python.h in {headers} (apt-get install python3-dev)")
    new = target.with_suffix(".new")
    # The stable ABI: one module for every CPython from 3.11 on.
    command = [compiler, "-O2", "-g", "-std=gnu11", "-fPIC", "-shared", *_WARNINGS, f"-I{headers}"]
    command += [*shlex.split(os.environ.get("CFLAGS", "")), "-o", str(new), str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own words
    if done.returncode:
        new.unlink(missing_ok=True)
        raise CannotBuild(f"{compiler} cannot compile it\n{done.stderr}")
    new.replace(target)
    return True


def main() -> int:
    try:
        build()
    except CannotBuild as reason:
        print(f"Python alone moves the packets of the userspace plane: {reason}", file=sys.stderr)
        return 0 if "--if-possible" in sys.argv[1:] else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
