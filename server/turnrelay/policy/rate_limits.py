"""PrefixRateLimit: how often a source prefix gets an answer before it has authenticated."""

import secrets
from array import array

from turnrelay.policy.prefixes import source_prefix

SLOTS = 65_536


class PrefixRateLimit:
    """A token bucket for each /24 (IPv4) or /56 (IPv6), in memory that never grows.

    Implements `core.protocols.RateLimit`.

    UDP sources can be forged, so the number of prefixes is the attacker's choice. A table of buckets would
    have to evict, and whoever is evicted starts afresh with a full burst: a flood from forged prefixes would
    buy its victim's prefix any number of answers. Here prefixes are spread over a fixed set of buckets
    by a hash with a secret key. Nothing is evicted, so nothing is reset; nobody can choose whom to share a
    bucket with; to empty them all takes `SLOTS` times the rate (13 million packets a second by default).
    The price: beside n prefixes that overdraw, another one meets a drained bucket with probability
    n / `SLOTS`. What it loses are answers to unauthenticated requests, which clients retransmit.
    """

    __slots__ = ("_burst", "_key", "_levels", "_mask", "_rate", "_updated_at")

    def __init__(
        self, per_second: float, burst: float, *, slots: int = SLOTS, key: bytes | None = None
    ) -> None:
        """`slots` is a power of two; `key` is drawn at random unless a test fixes it."""
        if slots & (slots - 1) or slots <= 0:
            raise ValueError(f"{slots} slots are no power of two")
        self._rate = per_second
        self._burst = burst
        self._mask = slots - 1
        self._key = secrets.token_bytes(16) if key is None else key
        self._levels = array("d", [burst]) * slots
        self._updated_at = array("d", [0.0]) * slots

    def allow(self, client_host: str, now: float) -> bool:
        """Spends one answer of the prefix of `client_host`; False when it has none left."""
        # hash() of bytes is SipHash: O(1) and, with the key in front, not to be steered from outside.
        slot = hash(self._key + source_prefix(client_host)) & self._mask
        level = self._levels[slot] + (now - self._updated_at[slot]) * self._rate
        if level > self._burst:
            level = self._burst
        self._updated_at[slot] = now
        allowed = level >= 1.0
        self._levels[slot] = level - 1.0 if allowed else level
        return allowed
