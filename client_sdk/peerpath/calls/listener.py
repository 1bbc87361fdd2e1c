"""Listener: the application's hold on calls that come in, for as long as it wants to take any."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Self

from peerpath.calls.reception import Reception
from peerpath.connection import Connection
from peerpath.signaling import SignalingClosed


class Listener:
    """Connections that peers have asked for.

        async with nat.listen(rendezvous) as calls:
            async for connection in calls:
                ...

    Listeners at one source share what comes by it: a connection goes to whoever takes it first.
    """

    def __init__(self, reception: Callable[[], Reception]) -> None:
        self._find = reception
        self._reception: Reception | None = None
        """While this listener is open."""

    def start(self) -> None:
        self._reception = self._find()
        self._reception.open(self)

    async def accept(self) -> Connection:
        """The next connection; SignalingClosed when no more will come."""
        while (reception := self._reception) is not None:
            if reception.ready:
                return reception.ready.popleft()
            if reception.has_ended:
                break
            await reception.changed.wait()
        raise SignalingClosed("no more calls: the channel or the listener was closed")

    async def __aiter__(self) -> AsyncIterator[Connection]:
        while True:
            try:
                connection = await self.accept()
            except SignalingClosed:
                return
            yield connection

    async def close(self) -> None:
        """Takes no more calls. The last listener ends those that are on their way in, or were not accepted.

        Connections go on, and what they need of the channel is still read.
        """
        reception, self._reception = self._reception, None
        if reception is not None:
            await reception.leave(self)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
