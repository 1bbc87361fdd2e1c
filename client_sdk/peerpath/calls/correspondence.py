"""Correspondence: the sealed messages of one attempt, there and back by its channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from peerpath.calls.bodies import BodyError, Kind
from peerpath.calls.channels import AFTER_ERROR, as_signaling_closed
from peerpath.errors import PeerpathError
from peerpath.signaling import Answering, Dialing, Signaling, SignalingError

Heard = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Gets kind and body of a message; BodyError for what the peer should not have said."""

_MAX_WAITING = 256


class Correspondence:
    """`send` and `read` run for as long as the attempt does. `note` is told in words of messages that do not
    count, `failed` of a channel that has ended."""

    def __init__(
        self,
        channel: Signaling,
        envelopes: Dialing | Answering,
        note: Callable[[str], None],
        failed: Callable[[PeerpathError], None],
    ) -> None:
        self._channel = channel
        self._envelopes = envelopes
        self._note = note
        self._failed = failed
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)

    @property
    def trickle(self) -> bool:
        """Whether candidates may follow one by one, or everything is to be said at once."""
        return getattr(self._channel, "trickle", True)

    def put(self, kind: Kind, body: Mapping[str, Any] | None = None) -> None:
        """Seals a message for `send`; if signaling is stuck, it is lost."""
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(self._envelopes.seal(kind.value, dict(body or {})))

    async def send(self) -> None:
        """What was put in, in order."""
        while True:
            message = await self._waiting.get()
            try:
                await self._channel.send(message)
            except Exception as error:  # an application's own channel may raise anything
                # A peer that refuses may leave with that word, which tells more than the end of the channel.
                await asyncio.sleep(AFTER_ERROR)
                self._failed(error if isinstance(error, PeerpathError) else as_signaling_closed(error))
            finally:
                self._waiting.task_done()

    async def sent(self) -> None:
        """Returns when everything that was put in is on its way."""
        await self._waiting.join()

    async def read(self, heard: Heard) -> None:
        """Until the channel ends."""
        while True:
            try:
                data = await self._channel.recv()
            except SignalingError as error:
                self._note(f"signaling: {error}")  # a wrong text that somebody pasted; the next may be right
                await asyncio.sleep(AFTER_ERROR)
                continue
            except Exception as error:
                self._failed(as_signaling_closed(error))
                return
            try:
                await heard(*self._envelopes.open(data))
            except SignalingError as error:
                self._note(f"a message that does not count: {error}")
            except BodyError as error:
                self._note(f"the peer said something wrong: {error}")

    def hang_up(self) -> None:
        """The attempt is over: a channel that was opened for it is closed."""
        hang_up = getattr(self._channel, "hang_up", None)
        if hang_up is not None:
            hang_up()
