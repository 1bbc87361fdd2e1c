"""Consent: the peer's continued wish to receive (RFC 7675 section 5.1). It keeps NAT bindings alive, too."""

from __future__ import annotations

from random import Random

INTERVAL = 5.0
"""Seconds between consent checks, +-20 % at random."""
EXPIRY = 30.0
"""Seconds without an answer after which nothing may be sent."""

_DOUBTFUL_AFTER = 3


class Consent:
    """When to ask on one pair, and until when the last answer counts.

    A consent check is a transaction of its own that is never repeated; its answer counts whenever it comes
    before the expiry.
    """

    __slots__ = ("_asked", "_random", "expires_at", "granted_at", "next_at", "unanswered")

    def __init__(self, now: float, random: Random) -> None:
        self._random = random
        self._asked: dict[bytes, float] = {}
        self.unanswered = 0
        self.granted(now)
        self.next_at = now + self._interval()

    @property
    def is_doubtful(self) -> bool:
        """Several checks in a row went without an answer: another path, if there is one, is better."""
        return self.unanswered >= _DOUBTFUL_AFTER

    def doubt(self) -> None:
        """Whoever uses the path has reason to believe that nothing comes back."""
        self.unanswered = max(self.unanswered, _DOUBTFUL_AFTER)

    def granted(self, now: float) -> None:
        """A valid answer has come, to a consent check or to any other check of the pair."""
        self.granted_at = now
        self.expires_at = now + EXPIRY
        self.unanswered = 0

    def asked(self, transaction_id: bytes, now: float) -> None:
        """A consent check leaves; the next one is due after the interval."""
        self._asked = {known: at for known, at in self._asked.items() if at > now - EXPIRY}
        self._asked[transaction_id] = now
        self.unanswered += 1
        self.next_at = now + self._interval()

    def awaits(self, transaction_id: bytes) -> bool:
        return transaction_id in self._asked

    def answered(self, transaction_id: bytes, now: float) -> float:
        """A consent check was answered; how long that took, in seconds."""
        self.granted(now)
        return now - self._asked.pop(transaction_id)

    def deadline(self) -> float:
        return min(self.next_at, self.expires_at)

    def _interval(self) -> float:
        return INTERVAL * self._random.uniform(0.8, 1.2)
