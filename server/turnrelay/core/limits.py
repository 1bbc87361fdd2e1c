"""The figures of the RFC, and those that an operator may set."""

from dataclasses import dataclass

PERMISSION_LIFETIME = 300.0
"""Seconds; RFC 8656 section 9 fixes it."""
CHANNEL_LIFETIME = 600.0
"""Seconds a channel binding lasts; RFC 8656 section 12."""
CHANNEL_REUSE_DELAY = 300.0
"""Seconds after its expiry before a channel or its peer may be bound otherwise; RFC 8656 section 12."""
RESERVATION_LIFETIME = 30.0
"""Seconds a reserved port is held; RFC 8656 section 7.2 recommends at least 30."""
ASK_TIMEOUT = 2.0
"""Seconds in which another process of the relay answers, or never does."""
CONNECT_TIMEOUT = 30.0
"""Seconds a peer is given to take a TCP connection; RFC 6062 section 5.2 asks for at least 30."""
CONNECTION_BIND_TIMEOUT = 30.0
"""Seconds a connection with a peer waits for its ConnectionBind; RFC 6062 sections 5.2 and 5.3."""
RETRANSMISSION_WINDOW = 40.0
"""Seconds in which a transaction may be retransmitted; RFC 8489 section 6.3.1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may hold. Times are seconds, rates are per second."""

    default_lifetime: int = 600
    max_lifetime: int = 3600
    nonce_lifetime: int = 3600
    permissions_per_allocation: int = 256
    channels_per_allocation: int = 256
    connections_per_allocation: int = 64
    """TCP connections with peers (RFC 6062), those that are not yet bound included."""
    requests_per_allocation: float = 50.0
    requests_burst: float = 200.0
    remembered_replies: int = 65536
    """Answers kept for retransmissions."""
