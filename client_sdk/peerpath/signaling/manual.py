"""ManualSignaling: people carry the messages, as text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from peerpath.signaling.armor import armor, unarmor
from peerpath.signaling.channel import SignalingClosed, SignalingError
from peerpath.signaling.envelope import Route


class ManualSignaling:
    """A channel whose messages somebody copies from here to the peer, and from the peer to here.

    `write` shows a text. `read` waits for one; empty text, or EOFError, is the end of the channel.
    """

    trickle = False

    def __init__(
        self, write: Callable[[str], Awaitable[None] | None], read: Callable[[], Awaitable[str]]
    ) -> None:
        self._write = write
        self._read = read
        self._offered = False
        self._sent: set[bytes] = set()

    async def send(self, message: bytes) -> None:
        """Shows an envelope as text."""
        text = armor(message)
        self._offered = self._offered or Route.of(message).is_offer
        self._sent.add(message)
        shown = self._write(text)
        if shown is not None:
            await shown

    async def recv(self) -> bytes:
        """The message in the next text; SignalingError if there is none in it: ask for another then."""
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
