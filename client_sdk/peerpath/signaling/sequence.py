"""Received: the messages of one side, each once and in order."""

from __future__ import annotations

from peerpath.signaling.channel import SignalingError
from peerpath.signaling.envelope import Content


class Received:
    """The count of what was opened. Numbers only rise; gaps are what a channel lost."""

    def __init__(self) -> None:
        self._next = 0

    def next(self, content: bytes) -> Content:
        """The content of an unsealed message; SignalingError if it, or a later one, was opened before."""
        decoded = Content.decode(content)
        if decoded.sequence < self._next:
            raise SignalingError("the message is repeated or late: it, or one after it, was here before")
        self._next = decoded.sequence + 1
        return decoded
