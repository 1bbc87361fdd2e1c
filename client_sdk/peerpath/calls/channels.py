"""What calls need of channels: one that ends with its attempt, and what the ends of others mean."""

from __future__ import annotations

from collections.abc import Callable

from peerpath.signaling import Signaling, SignalingClosed

AFTER_ERROR = 0.05
"""Seconds until `recv` is called again that has raised a SignalingError, as it may at once and every time.

Also for how long `recv` may have a last word yet when `send` has failed."""


class OwnChannel:
    """A channel that was opened for one attempt; `hang_up` calls `close`."""

    def __init__(self, channel: Signaling, close: Callable[[], None]) -> None:
        self._channel = channel
        self._close = close

    @property
    def trickle(self) -> bool:
        return getattr(self._channel, "trickle", True)

    async def send(self, message: bytes) -> None:
        await self._channel.send(message)

    async def recv(self) -> bytes:
        return await self._channel.recv()

    def hang_up(self) -> None:
        """The attempt is over."""
        self._close()


def as_signaling_closed(error: Exception) -> SignalingClosed:
    """An application's channel raises what its own transport does: to a call all of it is an end."""
    if isinstance(error, SignalingClosed):
        return error
    return SignalingClosed(f"the channel failed with {type(error).__name__}: {error}")
