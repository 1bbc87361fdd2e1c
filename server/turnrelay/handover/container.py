"""Whether a process may end and leave another one behind, which in a container it may not."""

import os
from contextlib import suppress
from pathlib import Path

_END_WITH_THEIR_CHILD = frozenset(
    ("catatonit", "docker-init", "dumb-init", "podman-init", "tini", "tini-static")
)
"""What runs as process 1 of a container for the sake of another command."""
_INSTEAD = "start another one and drain this one"


def reason_to_stay() -> str | None:
    """Why this process' end would be that of its successor, too; None if nothing is known that says so."""
    if os.getpid() == 1:
        return f"a container ends with its process 1, which this relay is; {_INSTEAD}"
    if os.getppid() == 1:
        with suppress(OSError):
            init = Path("/proc/1/comm").read_text().strip()
            if init in _END_WITH_THEIR_CHILD:
                return f"{init}, and with it the container, ends with the command that it started; {_INSTEAD}"
    return None
