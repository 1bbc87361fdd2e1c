"""Secrets that a relay makes for itself on its first start: its shared secret and the operator's token."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnrelay.policy.errors import OperatorError
from turnrelay.policy.private_file import create_private, require_private

SHARED_SECRET = "shared-secret"  # noqa: S105 - a file name
OPERATOR_TOKEN = "operator-token"  # noqa: S105 - a file name
_SECRET_BYTES = 32


def load_or_create_secret(data_dir: Path, file_name: str = SHARED_SECRET) -> str:
    """The secret in a file of `data_dir`, made there if there is none: 43 characters of base64url.

    The directory is made with mode 0700, the file with 0600 and for the directory's owner. Two processes
    that start at once get the same secret. OperatorError when the file can't be read or written, is empty, or
    is open to other users.
    """
    path = data_dir / file_name
    what = file_name.replace("-", " ")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_one_at_a_time(data_dir):
            if not path.exists():
                _create(path)
        require_private(path)
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot read or create the {what} ({error.strerror}); "
            "choose a directory with room, which this user may write, with --data-dir"
        ) from None
    except UnicodeDecodeError:
        raise OperatorError(f"{path}: is no text file; delete it to get a new one") from None
    if not secret:
        raise OperatorError(f"{path}: is empty; delete it to get a new one")
    return secret


def _create(path: Path) -> None:
    """Writes beside `path` and renames: nobody ever reads half a secret, a crash leaves none behind."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(create_private(draft), "w") as file:
        file.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def _only_one_at_a_time(directory: Path) -> Iterator[None]:
    """Holds the directory's lock; the kernel gives it back when the process dies."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
