"""ConnectionState: whether anything arrives at the peer now."""

from __future__ import annotations

from enum import StrEnum


class ConnectionState(StrEnum):
    """All of the states. INTERRUPTED is also the first one, before there was a link."""

    CONNECTED = "connected"
    INTERRUPTED = "interrupted"
    """There is no link: messages wait for the next one, datagrams are lost, streams have ended."""
    CLOSED = "closed"
