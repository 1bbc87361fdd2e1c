"""Mailbox: messages that wait for their reader, in order and only so many."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from peerpath.signaling.channel import SignalingClosed

Message = TypeVar("Message")

CAPACITY = 64


class Mailbox(Generic[Message]):
    """A bounded queue with an end. For one reader at a time."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._messages: deque[Message] = deque()
        self._capacity = capacity
        self._closed: str | None = None
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    def offer(self, message: Message) -> bool:
        """Puts the message in; False if there is no room for it, or no reader any more."""
        if self._closed is not None or len(self._messages) >= self._capacity:
            return False
        self._messages.append(message)
        self._filled.set()
        return True

    async def put(self, message: Message) -> None:
        """Puts the message in, waiting for room; SignalingClosed if the mailbox is closed."""
        while not self.offer(message):
            if self._closed is not None:
                raise SignalingClosed(self._closed)
            self._emptied.clear()
            await self._emptied.wait()

    async def first(self) -> Message:
        """The oldest message, which stays; SignalingClosed once the mailbox is closed and empty."""
        while not self._messages:
            if self._closed is not None:
                raise SignalingClosed(self._closed)
            self._filled.clear()
            await self._filled.wait()
        return self._messages[0]

    async def get(self) -> Message:
        """The oldest message, which leaves; SignalingClosed once the mailbox is closed and empty."""
        message = await self.first()
        self._messages.popleft()
        self._emptied.set()
        return message

    def close(self, reason: str) -> None:
        """Takes nothing more; what is in it can still be read."""
        if self._closed is None:
            self._closed = reason
        self._filled.set()
        self._emptied.set()
