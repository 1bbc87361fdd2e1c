"""What the system lets this process have."""

from __future__ import annotations

import sys

import psutil

_PLENTY = 8192
"""Where there is no such limit: Windows."""


def spare_descriptors() -> int:
    """How many files and sockets may still be opened."""
    if sys.platform == "win32":
        return _PLENTY
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _PLENTY
    return max(0, soft - psutil.Process().num_fds())
