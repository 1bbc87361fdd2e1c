"""PidFile: where the commands `turnrelay drain`, `upgrade` and `health` find the relay that runs."""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from turnrelay.policy.errors import OperatorError
from turnrelay.policy.private_file import open_private

FILE_NAME = "pid"
_TRIES = 20
_PAUSE_SECONDS = 0.005


class PidFile:
    """The relay's process, named in its data directory.

    Whoever holds the file's lock is the one that it names; the lock ends with the process, so a number that
    was left behind is nobody's.
    """

    def __init__(self, descriptor: int, http: str | None) -> None:
        """`descriptor` is that of the file, with its lock; `http` is host and port of the HTTP side."""
        self.descriptor = descriptor
        self._http = http or ""
        self._news = 0
        self._write("")

    @classmethod
    async def take(cls, data_dir: Path, http: str | None) -> "PidFile | None":
        """None where the directory cannot be written or is full, or another relay has it: then signals serve
        alone. Commands that look have the lock for a moment, which is waited for."""
        try:
            descriptor = _open(data_dir)
        except OSError:
            return None
        for _ in range(_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(descriptor, http)
            except BlockingIOError:
                await asyncio.sleep(_PAUSE_SECONDS)
            except OSError:
                break
        os.close(descriptor)
        return None

    def tell(self, news: str) -> None:
        """Why the last upgrade failed, for whoever asked for it."""
        self._news += 1
        with suppress(OSError):  # a full disk; the log has it, too
            self._write(f"{self._news} {news}")

    def close(self) -> None:
        """The relay is gone, unless another process has the lock by this descriptor, too."""
        os.close(self.descriptor)

    def _write(self, news: str) -> None:
        # What another version does not know of comes last: the two may read each other's file.
        text = f"{os.getpid()}\n{news.splitlines()[0] if news else ''}\n{self._http}\n".encode()
        # In one call: a reader sees all of it or what was there before, where the old text is not longer.
        os.pwrite(self.descriptor, text, 0)
        os.ftruncate(self.descriptor, len(text))


class Running(NamedTuple):
    """What the file says."""

    process: int
    news: str
    """Why the last upgrade failed, behind the number of failures; empty if none did."""
    http: str
    """Host and port of its HTTP side; empty if it has none of its own."""


def running_relay(data_dir: Path) -> Running:
    """The relay that runs with this data directory; OperatorError if none does."""
    path = data_dir / FILE_NAME
    try:
        with path.open() as file:
            if _is_locked(file.fileno()):
                process, news, http = file.read().split("\n")[:3]
                return Running(int(process), news, http)
    except FileNotFoundError:
        pass  # as where nobody has the lock
    except (OSError, ValueError) as error:
        raise OperatorError(f"{path}: does not tell which process the relay is ({error})") from None
    raise OperatorError(f"no relay runs with the data directory {data_dir}; name its own with --data-dir")


def _open(data_dir: Path) -> int:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open_private(data_dir / FILE_NAME)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
