"""A program at a pseudo-terminal: what it shows, and what a person types."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from support.netns import Namespace

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|\r")


class Terminal:
    """Ended with the block, whatever happened. `text` is what was shown, without colors and cursors."""

    def __init__(self, argv: Sequence[str | Path], *, namespace: Namespace | None = None) -> None:
        prefix = ["setpriv", "--pdeathsig", "KILL", *(namespace.prefix if namespace else ())]
        # Whoever starts the tests in the background has its children ignore what Ctrl-C sends.
        prefix += ["env", "--default-signal=INT"]
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        try:
            self._popen = subprocess.Popen(
                [*prefix, *map(str, argv)],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self._raw = b""

    @property
    def raw(self) -> str:
        """Everything, as it was written."""
        while True:
            ready, _, _ = select.select([self._master], [], [], 0)
            if not ready:
                break
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the program has let go of its terminal
                break
            if not data:
                break
            self._raw += data
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        return _CONTROL.sub("", self.raw)

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def press(self, key: bytes) -> None:
        """A key as the terminal sends it: b"\\x04" is Ctrl-D."""
        os.write(self._master, key)

    def see(self, wanted: str, timeout: float = 20.0, *, times: int = 1) -> str:
        """Waits until it is shown, so many times in all."""
        deadline = time.monotonic() + timeout
        while self.text.count(wanted) < times:
            assert time.monotonic() < deadline, f"not seen: {wanted!r} in:\n{self.text}"
            if self._popen.poll() is not None:
                assert self.text.count(wanted) >= times, f"ended without {wanted!r}:\n{self.text}"
            time.sleep(0.02)
        return self.text

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal hands it on."""
        os.killpg(self._popen.pid, signal.SIGINT)

    def end(self, timeout: float = 15.0) -> int:
        """Waits until it has ended by itself; its exit code."""
        deadline = time.monotonic() + timeout
        while self._popen.poll() is None:
            assert time.monotonic() < deadline, f"still runs:\n{self.text}"
            _ = self.raw  # a full terminal would stop it
            time.sleep(0.02)
        _ = self.raw
        return self._popen.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        _ = self.raw
        os.close(self._master)
