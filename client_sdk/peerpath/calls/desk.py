"""Desk: sorts what comes in by one channel among the attempts that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from peerpath.calls.channels import AFTER_ERROR, OwnChannel, as_signaling_closed
from peerpath.signaling import Route as Heading
from peerpath.signaling import Signaling, SignalingError
from peerpath.signaling.mailbox import Mailbox

_MAX_ATTEMPTS = 64


class AttemptChannel(OwnChannel):
    """One attempt's share of a channel; what still comes for it after `hang_up` is dropped."""

    def __init__(self, channel: Signaling, close: Callable[[], None]) -> None:
        super().__init__(channel, close)
        self.inbox: Mailbox[bytes] = Mailbox()

    async def recv(self) -> bytes:
        return await self.inbox.get()


class Desk:
    """Reads `channel` until it ends; `on_offer` gets each offer with a channel for its attempt.

    `on_idle` is called when the last attempt has hung up.
    """

    def __init__(
        self,
        channel: Signaling,
        on_offer: Callable[[bytes, AttemptChannel], None],
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._channel = channel
        self._on_offer = on_offer
        self._on_idle = on_idle
        self._attempts: dict[bytes, AttemptChannel] = {}

    async def run(self) -> None:
        try:
            while True:
                try:
                    data = await self._channel.recv()
                except SignalingError:
                    # A wrong text that somebody pasted is no end: the next one may be right.
                    await asyncio.sleep(AFTER_ERROR)
                    continue
                with suppress(SignalingError):
                    self._sort(data)
        except Exception as end:  # an application's own channel may end with anything
            for attempt in self._attempts.values():
                attempt.inbox.close(str(as_signaling_closed(end)))

    def _sort(self, data: bytes) -> None:
        heading = Heading.of(data)
        known = self._attempts.get(heading.attempt)
        if known is not None:
            known.inbox.offer(data)  # a full one loses messages, as any channel may
        elif heading.is_offer and len(self._attempts) < _MAX_ATTEMPTS:
            made = AttemptChannel(self._channel, lambda: self._forget(heading.attempt))
            self._attempts[heading.attempt] = made
            self._on_offer(data, made)

    def _forget(self, attempt: bytes) -> None:
        if self._attempts.pop(attempt, None) is not None and not self._attempts and self._on_idle:
            self._on_idle()
