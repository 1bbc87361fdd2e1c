"""Start a program, wait until it is ready, read what it printed, and stop it: by pid, always."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from support.netns import Namespace

_TERMINATE = signal.SIGTERM

# The processes that a failing test shows. A test's own are added as they start (see tests/conftest.py).
started: list["Process"] = []


class ProcessFailed(AssertionError):
    """A program ended too early, too late or badly; the message holds the end of its output."""


class Process:
    """A running program whose standard output and error go, together, to a file.

    It is killed by the kernel when this process dies, however it dies, so a killed test run leaves nothing
    behind: `setpriv` sets PR_SET_PDEATHSIG and then becomes the program. No code of ours runs between fork
    and exec, which would be unsafe beside other threads. `env` is its whole environment, None this process's.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        namespace: Namespace | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = [str(part) for part in argv]
        self.name = Path(self.argv[0]).name
        prefix = ["setpriv", "--pdeathsig", "KILL", *(namespace.prefix if namespace else ())]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._popen = subprocess.Popen(
            prefix + self.argv,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
        )
        started.append(self)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    def output(self) -> str:
        if self._output.closed:
            return self._final_output
        return os.pread(self._output.fileno(), 1 << 24, 0).decode(errors="replace")

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60.0) -> Self:
        """Poll `ready` until it is true. Raises when the program ends first or the time is up."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.returncode is not None:
                raise self.failure(f"ended with {self.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready after {timeout:g} s")
            time.sleep(0.02)
        return self

    def wait(self, timeout: float) -> str:
        """Wait for success (exit code 0) and return the output."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still ran after {timeout:g} s") from None
        if code != 0:
            raise self.failure(f"ended with {code}")
        return self.output()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def stop(self, timeout: float = 20.0, *, first: int = _TERMINATE) -> int:
        """SIGTERM or what is given, and SIGKILL to one that does not listen. Returns the exit code, negative
        for a signal."""
        if self._popen.poll() is None:
            self._popen.send_signal(first)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self._final_output = self.output()
        self._output.close()
        return self._popen.returncode

    def failure(self, what: str) -> ProcessFailed:
        return ProcessFailed(f"{self.name} {what}\n$ {' '.join(self.argv)}\n{self.output()[-8000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    namespace: Namespace | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end. Raises with its output unless it exits with 0 in time."""
    with Process(argv, namespace=namespace, env=env, cwd=cwd) as process:
        return process.wait(timeout)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return True
    return False
