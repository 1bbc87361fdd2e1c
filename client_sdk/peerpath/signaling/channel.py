"""Signaling: anything that carries short messages to one peer and back."""

from __future__ import annotations

from typing import Protocol

from peerpath.errors import PeerpathError

MAX_MESSAGE_BYTES = 16 * 1024
"""The longest message that a channel has to carry, and that is read from one."""


class SignalingError(PeerpathError):
    """A message that is not to be believed or not to be read: the message says why. The channel goes on."""


class SignalingClosed(PeerpathError):
    """The channel has ended: nothing more will come, and nothing more can be sent."""


class Signaling(Protocol):
    """A channel to one peer. It may lose, repeat and reorder messages, and anyone may read and write."""

    @property
    def trickle(self) -> bool:
        """False where each message costs a person's effort, so that everything is to be said in one."""

    async def send(self, message: bytes) -> None:
        """Sends at most MAX_MESSAGE_BYTES; SignalingClosed if the channel has ended."""

    async def recv(self) -> bytes:
        """The next message, for one reader at a time; SignalingClosed once no more will come."""
