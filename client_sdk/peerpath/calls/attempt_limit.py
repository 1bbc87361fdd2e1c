"""AttemptLimit: how often one key may call."""

from __future__ import annotations

from collections import OrderedDict

from peerpath.identity import PublicKey

_MAX_KEYS = 4096


class AttemptLimit:
    """A token bucket for each key: `burst` attempts at once, then `per_minute`.

    The keys are those of signatures that were verified, so making up new ones costs an attacker little but
    gains only refusals: unknown keys are refused by default. What is remembered is bounded.
    """

    def __init__(self, per_minute: float = 12.0, burst: int = 6) -> None:
        self._per_second = per_minute / 60
        self._burst = float(burst)
        self._buckets: OrderedDict[PublicKey, tuple[float, float]] = OrderedDict()

    def take(self, peer: PublicKey, now: float) -> bool:
        """Whether `peer` may make an attempt at `now`, which counts if so."""
        tokens, at = self._buckets.pop(peer, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_second)
        allowed = tokens >= 1
        self._buckets[peer] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        return allowed
