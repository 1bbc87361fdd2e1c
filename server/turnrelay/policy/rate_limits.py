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

    __slots__ = ("_burst", "_key", "_mask", "_rate", "_spent", "_updated_at")

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        slots: int = SLOTS,
        key: bytes | None = None,
        memory: "memoryview[float] | None" = None,
    ) -> None:
        """`slots` is a power of two; `key` is drawn at random unless a test fixes it.

        `memory` are two doubles for each slot, zeroed, where other processes spend from the buckets too.
        """
        if slots & (slots - 1) or slots <= 0:
            raise ValueError(f"{slots} slots are no power of two")
        self._rate = per_second
        self._burst = burst
        self._mask = slots - 1
        self._key = secrets.token_bytes(16) if key is None else key
        memory = memoryview(array("d", [0.0]) * (2 * slots)) if memory is None else memory
        self._spent, self._updated_at = memory[:slots], memory[slots:]

    def allow(self, client_host: str, now: float) -> bool:
        """Spends one answer of the prefix of `client_host`; False when it has none left."""
        slot = self._slot(client_host)
        spent = self._spent[slot] - (now - self._updated_at[slot]) * self._rate
        if spent < 0.0:
            spent = 0.0
        self._updated_at[slot] = now
        allowed = spent <= self._burst - 1.0
        self._spent[slot] = spent + 1.0 if allowed else spent
        return allowed

    def give_back(self, client_host: str) -> None:
        """Undoes an `allow`."""
        self._spent[self._slot(client_host)] -= 1.0

    def _slot(self, client_host: str) -> int:
        # hash() of bytes is SipHash: O(1) and, with the key in front, not to be steered from outside.
        return hash(self._key + source_prefix(client_host)) & self._mask
