"""Compiles relay.bpf.c for the kernel plane: `python build.py`, or from the wheel's build hook."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROGRAM = FOLDER / "relay.bpf.c"
SOURCES = [PROGRAM, *sorted(FOLDER.glob("*.h"))]
OBJECT = FOLDER.parent / "turnrelay" / "relay" / "kernel" / "relay.bpf.o"
_MULTIARCH = Path(f"/usr/include/{platform.machine()}-linux-gnu")
"""Where Debian keeps asm/types.h; clang looks there only for its own machine, which BPF is not."""


class CannotBuild(Exception):
    """What is missing, or the compiler's words."""


def build(target: Path = OBJECT) -> bool:
    """Makes the object unless it is newer than its sources; whether it was made."""
    if target.exists() and all(target.stat().st_mtime >= source.stat().st_mtime for source in SOURCES):
        return False
    if platform.system() != "Linux":
        raise CannotBuild("the kernel plane is for Linux")
    clang = shutil.which(os.environ.get("CLANG", "clang"))
    if clang is None:
        raise CannotBuild("clang is not installed (apt-get install clang)")
    new = target.with_suffix(".new")
    # -mcpu=v3: 32-bit operations and atomic compare-and-exchange, Linux 5.12.
    command = [clang, "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"]
    if _MULTIARCH.is_dir():
        command += ["-I", str(_MULTIARCH)]
    command += ["-c", str(PROGRAM), "-o", str(new)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own words
    if done.returncode:
        new.unlink(missing_ok=True)
        raise CannotBuild(f"clang cannot compile it; linux-libc-dev is needed\n{done.stderr}")
    new.replace(target)
    return True


def main() -> int:
    try:
        build()
    except CannotBuild as reason:
        print(f"No kernel plane, the relay runs in userspace: {reason}", file=sys.stderr)
        return 0 if "--if-possible" in sys.argv[1:] else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
