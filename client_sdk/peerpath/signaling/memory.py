"""Two ends of a channel in one process: for tests, and for peers that live in the same program."""

from __future__ import annotations

import asyncio

from peerpath.signaling.channel import MAX_MESSAGE_BYTES
from peerpath.signaling.mailbox import Mailbox

_Timed = tuple[float, bytes]


class MemorySignaling:
    """One end; `memory_pair` makes both."""

    trickle = True

    def __init__(self, inbox: Mailbox[_Timed], outbox: Mailbox[_Timed], delay: float) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._delay = delay

    async def send(self, message: bytes) -> None:
        """Puts the message on its way, waiting while too many are; SignalingClosed after `close`."""
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(message)} bytes, {MAX_MESSAGE_BYTES} are the most")
        await self._outbox.put((asyncio.get_running_loop().time() + self._delay, message))

    async def recv(self) -> bytes:
        """The next message, when its time has come; SignalingClosed once no more will come."""
        due, _ = await self._inbox.first()
        # It stays in the mailbox meanwhile, so that a reader who gives up loses nothing.
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        _, message = await self._inbox.get()
        return message

    def close(self) -> None:
        """Ends the channel for both; what is on its way still arrives."""
        for mailbox in (self._inbox, self._outbox):
            mailbox.close("the channel was closed")


def memory_pair(delay: float = 0.0) -> tuple[MemorySignaling, MemorySignaling]:
    """Both ends of a channel whose messages take `delay` seconds each way."""
    there, back = Mailbox[_Timed](), Mailbox[_Timed]()
    return MemorySignaling(back, there, delay), MemorySignaling(there, back, delay)
