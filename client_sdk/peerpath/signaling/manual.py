"""ManualSignaling: people carry the messages, as text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from peerpath.signaling.armor import armor, unarmor
from peerpath.signaling.channel import SignalingClosed, SignalingError
from peerpath.signaling.envelope import Route

Show = Callable[[str], Awaitable[None] | None]
"""Shows a text to somebody."""


class ManualSignaling:
    """A channel whose messages somebody copies from here to the peer, and from the peer to here.

    `write` shows a text. `read` waits for one; empty text, or EOFError, is the end of the channel. `explain`
    shows what is wrong with a text, before the next one is read.
    """

    trickle = False

    def __init__(self, write: Show, read: Callable[[], Awaitable[str]], explain: Show | None = None) -> None:
        self._write = write
        self._read = read
        self._explain = explain
        self._offered = False
        self._sent: set[bytes] = set()

    async def send(self, message: bytes) -> None:
        """Shows an envelope as text."""
        text = armor(message)
        self._offered = self._offered or Route.of(message).is_offer
        self._sent.add(message)
        await _shown(self._write(text))

    async def recv(self) -> bytes:
        """The message in the next text. SignalingError if there is none in it, and nobody to explain that to:
        ask for another then."""
        while True:
            try:
                return await self._next()
            except SignalingError as error:
                if self._explain is None:
                    raise
                await _shown(self._explain(str(error)))

    async def _next(self) -> bytes:
        try:
            text = await self._read()
        except EOFError:
            text = ""
        if not text.strip():
            raise SignalingClosed("no more text is given")
        message = unarmor(text)
        if message in self._sent:
            raise SignalingError(
                "the text is the one that was made here: give it to the peer, and ask for theirs"
            )
        if Route.of(message).is_offer and self._offered:
            raise SignalingError(
                "the text is an offer of the peer, who has to answer the offer made here instead"
            )
        if not Route.of(message).is_offer and not self._sent:
            raise SignalingError("the text is an answer, but no offer was made here")
        return message


async def _shown(showing: Awaitable[None] | None) -> None:
    if showing is not None:
        await showing
