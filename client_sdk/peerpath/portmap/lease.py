"""Lease: when to ask a gateway, when to ask again, when to renew, when it is over."""

from __future__ import annotations

FIRST_WAIT = 0.25
"""Seconds for the first answer, doubled with each repetition (RFC 6886 section 3.1). RFC 6887 section 8.1.1
begins at 3 s, but the same gateway one hop away answers to both."""

ATTEMPTS = 4
"""3.75 s in all: a gateway that has not answered by then speaks another protocol or none."""

_SHORTEST_RENEWAL = 4.0
_LONGEST_PAUSE = 64.0
"""Of a gateway that has rebooted, and gives nothing yet."""


class Lease:
    """Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self.next_at: float | None = None
        """When a request is to be sent, or the end of the wait for the last one."""
        self.expires_at: float | None = None
        """When the mapping ends; None while there is none."""
        self.attempts = 0
        self._pause: float | None = None
        """Until a gateway that has forgotten the mapping is asked again."""

    def begin(self, now: float) -> None:
        """A round of requests, the first of them now."""
        self.attempts = 0
        self.next_at = now

    def begin_anew(self, now: float) -> None:
        """The gateway has forgotten the mapping, so nothing is left that lasts until it is renewed."""
        self._pause = _SHORTEST_RENEWAL
        self.begin(now)

    @property
    def is_forgotten(self) -> bool:
        return self._pause is not None

    def sent(self, now: float) -> None:
        self.next_at = now + FIRST_WAIT * 2**self.attempts
        self.attempts += 1

    @property
    def is_spent(self) -> bool:
        """No further request belongs to this round."""
        return self.attempts >= ATTEMPTS

    def granted(self, now: float, lifetime: float) -> None:
        """RFC 6887 section 11.2.1: renewed when half of the lifetime is over."""
        self.expires_at = now + lifetime
        self.next_at = now + max(lifetime / 2, _SHORTEST_RENEWAL)
        self.attempts = 0
        self._pause = None

    def postpone(self, now: float) -> None:
        """The gateway was silent: once more when half of what remains is over, or soon if it has rebooted."""
        assert self.expires_at is not None
        self.attempts = 0
        if self._pause is not None:
            self.next_at = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return
        self.next_at = now + max((self.expires_at - now) / 2, _SHORTEST_RENEWAL)

    def end(self) -> None:
        self.next_at = self.expires_at = self._pause = None
        self.attempts = 0
