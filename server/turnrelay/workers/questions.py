"""Questions: what the supervisor asks its workers, and waits for."""

import asyncio
from collections.abc import Iterable
from itertools import count
from typing import Any

from turnrelay.workers.channel import Channel
from turnrelay.workers.messages import Ask

_PATIENCE_SECONDS = 2.0


class Questions:
    """Each question to each worker has a ticket, which comes back with the answer."""

    def __init__(self) -> None:
        self._tickets = count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, channels: Iterable[Channel], question: str, argument: Any) -> list[Any]:
        """The answers, less those of workers that end or do not answer within two seconds."""
        loop = asyncio.get_running_loop()
        asked = {}
        for channel in channels:
            ticket = next(self._tickets)
            asked[ticket] = self._open[ticket] = loop.create_future()
            channel.send(Ask(ticket, question, argument))
        try:
            if asked:
                await asyncio.wait(asked.values(), timeout=_PATIENCE_SECONDS)
        finally:
            for ticket in asked:
                del self._open[ticket]
        return [future.result() for future in asked.values() if future.done()]

    def answered(self, ticket: int, value: Any) -> None:
        """An answer came; one that is too late is nobody's."""
        future = self._open.get(ticket)
        if future is not None and not future.done():
            future.set_result(value)
