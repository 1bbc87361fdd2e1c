"""ConnectionOptions: what a connection holds and waits for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from peerpath.arguments import require_positive


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Sizes in bytes, times in seconds. Each side tells the other its limits; the smaller ones count."""

    max_message: int = 1_048_576
    """The largest message that is sent or taken."""
    window_bytes: int = 1_048_576
    """Messages that the peer's application has not taken yet: past that `send` waits. One always fits."""
    window_messages: int = 4_096
    """The same, counted."""
    in_flight: int = 262_144
    """What is handed to QUIC at a time and was not acknowledged; the rest waits in the window."""
    datagrams: int = 256
    """Datagrams received that nobody fetched: past that the oldest are dropped."""
    path_events: int = 64
    """Events that one iterator of `path_events` holds: past that the oldest are dropped."""
    acknowledge_after: float = 0.02
    """How long the word that messages were taken may wait for company."""
    close_timeout: float = 5.0
    """How long `close` waits for the last messages to arrive."""

    def __post_init__(self) -> None:
        for field in fields(self):
            require_positive(field.name, getattr(self, field.name))
