"""ConnectionStats: what a connection did so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """Counts since the connection was made; bytes are those of the application."""

    messages_sent: int
    """That the peer's application has taken."""
    messages_received: int
    """That this application has taken."""
    message_bytes_sent: int
    message_bytes_received: int
    messages_queued: int
    """That the peer's application has not taken yet."""
    bytes_queued: int
    datagrams_sent: int
    datagrams_received: int
    datagrams_dropped: int
    """That nobody fetched, or that waited too long to be sent."""
    rtt: float | None
    """Seconds, smoothed; None without a link, or before the first sample."""
    links: int
    """Links that were established, one after the other."""
    interruptions: int
    seconds: float
    """Since the connection was made."""
