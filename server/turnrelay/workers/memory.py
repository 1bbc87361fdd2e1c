"""SharedMemory and SharedLock: what all processes of the relay see, made before they are forked."""

import fcntl
import mmap
import os
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal


class SharedMemory:
    """Zeroed memory that forked processes share. Pages that nobody touches take none.

    Reads and writes of one aligned item (8 bytes at most) are whole on the machines that Linux runs on;
    whatever needs more than one of them to fit together holds a lock meanwhile.
    """

    def __init__(self, size: int, descriptor: int = -1) -> None:
        """`descriptor` is a file's of at least that size, for memory that others than children share, too."""
        self.map = mmap.mmap(descriptor, size)

    def as_doubles(self) -> "memoryview[float]":
        return memoryview(self.map).cast("d")

    def as_integers(self, form: Literal["I", "Q"]) -> "memoryview[int]":
        """All of it, as unsigned integers of four (I) or eight (Q) bytes."""
        return memoryview(self.map).cast(form)


class SharedLock(AbstractContextManager[None]):
    """A lock between processes, for a few microseconds at a time.

    A record lock of the system: it ends with the process that holds it, however that ends, so that nobody
    waits for the dead.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("turnrelay-lock", os.MFD_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
