"""StallWatch: notices within seconds that nothing comes back, where consent takes half a minute."""

from __future__ import annotations

PROBE_AFTER = 0.8
"""Seconds of silence, with something unanswered under way, after which the link asks anew."""
PROBE_EVERY = 0.5
MEND_AFTER = 2.0
"""Seconds of silence after which another path is looked for."""
MEND_EVERY = 3.0
ASK_AFTER = 6.5
"""Seconds without a word after which the link asks although it has nothing to send. A path that works answers
a consent check every 4 to 6 seconds (RFC 7675 section 5.1), so that it is asked nothing more."""


class StallWatch:
    """Times are seconds of one clock. Where nothing waits for an answer, silence means nothing.

    The peer is silent after `silent_after` seconds without a word, of which it was asked for one in the last
    MEND_AFTER at least, and lost after `lost_after`.
    """

    def __init__(self, silent_after: float = 5.0, lost_after: float = 30.0) -> None:
        self._silent_after = silent_after
        self._lost_after = lost_after
        self._heard_at: float | None = None
        self._waiting_since: float | None = None
        self._probed_at = float("-inf")
        self._mended_at = float("-inf")

    def received(self, now: float) -> None:
        """Anything of the peer came."""
        self._heard_at = now
        self._waiting_since = None
        self._mended_at = float("-inf")

    def consented(self, at: float) -> None:
        """The peer answered a check of the path. What else was asked still waits for its answer."""
        self._heard_at = at if self._heard_at is None else max(self._heard_at, at)

    def should_probe(self, is_waiting: bool, now: float) -> bool:
        """Told regularly whether an answer is waited for; whether to ask anew now."""
        if self._heard_at is None:
            self._heard_at = now
        if not is_waiting:
            self._waiting_since = None
            return now - self._heard_at >= ASK_AFTER
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < PROBE_AFTER or now - self._probed_at < PROBE_EVERY:
            return False
        self._probed_at = now
        return True

    def should_mend(self, now: float) -> bool:
        """Whether it is time to look for another path (again)."""
        if not self._is_stalled(now) or now - self._mended_at < MEND_EVERY:
            return False
        self._mended_at = now
        return True

    def is_silent(self, now: float) -> bool:
        """Whether the peer may be gone, or its path: nobody knows yet."""
        return self._is_stalled(now) and self._has_been_quiet(self._silent_after, now)

    def is_lost(self, now: float) -> bool:
        """Whether it has been silent for so long that this link has no future."""
        return self._is_stalled(now) and self._has_been_quiet(self._lost_after, now)

    def _is_stalled(self, now: float) -> bool:
        return self._waiting_since is not None and now - self._waiting_since >= MEND_AFTER

    def _has_been_quiet(self, seconds: float, now: float) -> bool:
        return self._heard_at is not None and now - self._heard_at >= seconds
