"""Lines: what a person types, without stopping the event loop."""

from __future__ import annotations

import asyncio
import codecs
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Self

_MAX_WAITING = 256
_CHUNK = 4096


class Lines:
    """Reads standard input in a thread of its own, which the program does not wait for at its end."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(_MAX_WAITING)
        self._back: list[str] = []
        self._asking = asyncio.Lock()
        self._question: asyncio.Future[str] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                for line in itertools.chain(_lines(sys.stdin.fileno()), (None,)):
                    asyncio.run_coroutine_threadsafe(self._arrived(line), loop).result()
            except (CancelledError, RuntimeError):
                return  # the program has ended

        threading.Thread(target=read, name="lines", daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """The thread ends with the program."""

    async def get(self) -> str | None:
        """The next line; None when there will be no more."""
        return self._back.pop() if self._back else await self._queue.get()

    def put_back(self, line: str) -> None:
        """`get` gives it again."""
        self._back.append(line)

    async def ask(self, question: str) -> bool:
        """Whether the next line begins with a y. One question after the other."""
        async with self._asking:
            sys.stdout.write(question)
            sys.stdout.flush()
            self._question = asyncio.get_running_loop().create_future()
            try:
                return (await self._question).strip().lower().startswith("y")
            finally:
                self._question = None

    async def _arrived(self, line: str | None) -> None:
        if self._question is not None and not self._question.done():
            self._question.set_result(line or "")
        else:
            await self._queue.put(line)


def _lines(descriptor: int) -> Iterator[str]:
    # Not by sys.stdin: its lock, held by a thread that waits, is fatal when the interpreter shuts down.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    while data := _read(descriptor):
        *lines, rest = (rest + decoder.decode(data)).split("\n")
        yield from lines
    if rest:
        yield rest


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""  # the terminal is gone
