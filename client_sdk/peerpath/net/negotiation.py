"""Negotiation: what is said to a proxy before it is a way to somebody else. Sans-IO."""

from __future__ import annotations

from typing import Protocol


class ProxyRefused(Exception):
    """The proxy's answer is no, or is no answer; the message says why in words that a person can act on."""


class Negotiation(Protocol):
    """One connection through one proxy. On all that goes through here the client speaks first, so bytes
    after the proxy's yes are an error."""

    @property
    def is_done(self) -> bool:
        """Whether the way is there."""

    def begin(self) -> bytes:
        """What is sent first."""

    def feed(self, data: bytes) -> bytes:
        """What is to be sent now, empty for nothing. `data` is empty where the proxy closed the connection.
        ProxyRefused."""
