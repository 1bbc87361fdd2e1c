"""LinkRole and LinkOptions: what a link is told when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

ALPN = "peerpath/1"
SMALLEST_PAYLOAD = 1200
"""Bytes of UDP payload that every path has to carry (RFC 9000 section 14)."""


class LinkRole(StrEnum):
    """Who begins: the dialer is the QUIC client, and the controlling side of ICE."""

    DIALER = "dialer"
    LISTENER = "listener"


def wall_clock() -> datetime:
    """The system's idea of the date, which certificates are checked against."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Times in seconds, sizes in bytes."""

    max_payload: int = SMALLEST_PAYLOAD
    """The UDP payload that packets begin with; 1200 leaves room for what TURN and tunnels wrap around it."""
    idle_timeout: float = 60.0
    """A link that has heard nothing for so long is closed; the shorter of both sides counts."""
    keepalive: bool = True
    """Whether a PING keeps a silent link from its idle timeout: one in 24 s of 60, none while data flows."""
    stream_window: int = 262_144
    """What the peer may send on one stream before the application has read it."""
    max_streams: int = 64
    """Streams that the peer may have open at a time, beside the control stream."""
    datagrams_waiting: int = 256
    """Datagrams that may wait for the congestion window; past that the oldest are dropped."""
    wall_clock: Callable[[], datetime] = wall_clock

    def __post_init__(self) -> None:
        if self.max_payload < SMALLEST_PAYLOAD:
            raise ValueError(
                f"max_payload: QUIC needs at least {SMALLEST_PAYLOAD} bytes, not {self.max_payload}"
            )
