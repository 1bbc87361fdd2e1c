"""Files of the data directory: for one user alone, and that is the directory's owner."""

import os
from contextlib import suppress
from pathlib import Path

from turnrelay.policy.errors import OperatorError


def create_private(path: Path) -> int:
    """A descriptor of a new file of mode 0600, for reading and writing; OSError, also if there is one.

    Root gives what it makes to the owner of the directory: a command that root types must not leave the
    relay, which has a user of its own, a file that it cannot read.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        with suppress(PermissionError):  # root without CAP_CHOWN
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def open_private(path: Path) -> int:
    """The same, or a descriptor of the file that is there, which keeps owner and mode: where a link leads
    that another user has put there is not for root to give away."""
    try:
        return create_private(path)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def require_private(path: Path) -> None:
    """OperatorError if `path` can be read or written by anyone but its owner."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise OperatorError(
            f"{path}: has mode {mode:04o}, so other users may read or change the keys in it; "
            f"mend it with: chmod 600 {path}"
        )
