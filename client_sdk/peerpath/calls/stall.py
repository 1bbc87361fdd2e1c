"""StallWatch: notices within seconds that nothing comes back, where consent takes half a minute."""

from __future__ import annotations

PROBE_AFTER = 0.8
"""Seconds of silence, with something unanswered under way, after which the link asks anew."""
PROBE_EVERY = 0.5
MEND_AFTER = 2.0
"""Seconds of silence after which another path is looked for."""
MEND_EVERY = 3.0


class StallWatch:
    """Times are seconds of one clock. Where nothing waits for an answer, silence means nothing."""

    def __init__(self) -> None:
        self._received_at: float | None = None
        self._waiting_since: float | None = None
        self._probed_at = float("-inf")
        self._mended_at = float("-inf")

    def received(self, now: float) -> None:
        """Anything of the peer came."""
        self._received_at = now
        self._waiting_since = None
        self._mended_at = float("-inf")

    def should_probe(self, is_waiting: bool, now: float) -> bool:
        """Told regularly whether an answer is waited for; whether to ask anew now."""
        if not is_waiting:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < PROBE_AFTER or now - self._probed_at < PROBE_EVERY:
            return False
        self._probed_at = now
        return True

    def should_mend(self, now: float) -> bool:
        """Whether it is time to look for another path (again)."""
        if self._waiting_since is None or now - self._waiting_since < MEND_AFTER:
            return False
        if now - self._mended_at < MEND_EVERY:
            return False
        self._mended_at = now
        return True
