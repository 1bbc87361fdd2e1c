"""ReplayGuard: an offer is taken once, and only while it is fresh."""

from __future__ import annotations

from peerpath.identity import PublicKey
from peerpath.signaling.channel import SignalingError

CLOCK_TOLERANCE = 600.0
_CAPACITY = 4096


class ReplayGuard:
    """Remembers the attempts that were seen, for as long as their time stamps are acceptable.

    At most `capacity` of them: past that the oldest are forgotten. Whoever floods a listener with offers can
    thus replay an old one, which gains nothing (the answer is sealed to the dialer's ephemeral key); refusing
    new offers instead would let the flood silence the listener.
    """

    def __init__(self, clock_tolerance: float = CLOCK_TOLERANCE, capacity: int = _CAPACITY) -> None:
        self._clock_tolerance = clock_tolerance
        self._capacity = capacity
        self._seen: dict[tuple[PublicKey, bytes], float] = {}
        """When each may be forgotten, in the order of arrival."""

    def admit(self, peer: PublicKey, attempt: bytes, *, sent_at: float, now: float) -> None:
        """Lets an attempt in, once; SignalingError if it was in already or its time stamp is too far off.

        Times are Unix time in seconds: `sent_at` by the dialer's clock, `now` by ours. An attempt is one of
        its dialer's, so that nobody can use up somebody else's.
        """
        apart = sent_at - now
        if abs(apart) > self._clock_tolerance:
            raise SignalingError(
                f"the offer is dated {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this "
                f"computer's clock, {self._clock_tolerance:.0f} s are tolerated: set the clocks of both"
            )
        self._forget(now)
        if (peer, attempt) in self._seen:
            raise SignalingError("the offer was here before: it is being replayed")
        self._seen[peer, attempt] = sent_at + self._clock_tolerance
        if len(self._seen) > self._capacity:
            del self._seen[next(iter(self._seen))]

    def _forget(self, now: float) -> None:
        for key in [key for key, forget_at in self._seen.items() if forget_at < now]:
            del self._seen[key]

    @property
    def remembered(self) -> int:
        """How many attempts it holds."""
        return len(self._seen)
