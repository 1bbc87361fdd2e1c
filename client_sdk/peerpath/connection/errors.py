"""What an application gets raised, and whose fault each is."""

from __future__ import annotations

from peerpath.errors import PeerpathError


class ConnectionClosed(PeerpathError):
    """There is no connection any more: the message says why.

    `by_peer` says that the peer closed it; `in_order` that one of both sides called `close`, so that nothing
    of what the peer sent is missing.
    """

    def __init__(self, reason: str, *, by_peer: bool = False, in_order: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.by_peer = by_peer
        self.in_order = in_order


class StreamError(PeerpathError):
    """A stream ended before its end: given up by one side, or with the link that it ran over."""


class MessageTooLarge(PeerpathError, ValueError):
    """A message larger than both sides allow; a stream takes any number of bytes."""


class DatagramTooLarge(PeerpathError, ValueError):
    """A datagram that does not fit into one packet; `limit` bytes do."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a datagram of {size} bytes does not fit into one packet, at most {limit} do: send a message"
        )
        self.limit = limit
