"""Lines: what a person types, without stopping the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Self


class Lines:
    """Reads standard input in a thread of its own, which the program does not wait for at its end."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._back: list[str] = []
        self._question: asyncio.Future[str] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(self._arrived, line.rstrip("\n"))
            loop.call_soon_threadsafe(self._arrived, None)

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
        """Whether the next line begins with a y."""
        sys.stdout.write(question)
        sys.stdout.flush()
        self._question = asyncio.get_running_loop().create_future()
        try:
            return (await self._question).strip().lower().startswith("y")
        finally:
            self._question = None

    def _arrived(self, line: str | None) -> None:
        if self._question is not None and not self._question.done():
            self._question.set_result(line or "")
        else:
            self._queue.put_nowait(line)
