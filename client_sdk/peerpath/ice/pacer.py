"""Pacer: when new transactions may leave (RFC 8445 section 14.2), and how long to wait for them (14.3)."""

from __future__ import annotations

TA = 0.05
MIN_TA = 0.005
MIN_RTO = 0.5


class Pacer:
    """One queue for all ICE sessions of a process: a new transaction every `interval` seconds at most.

    A session reserves one slot at a time and uses it for whatever is most urgent when the slot comes, so
    sessions that start together take turns. ValueError below 5 ms, the limit of the RFC for a process.
    """

    def __init__(self, interval: float = TA) -> None:
        if interval < MIN_TA:
            raise ValueError(f"Ta is at least {MIN_TA} s, not {interval}")
        self.interval = interval
        self._free_at = float("-inf")

    def reserve(self, now: float) -> float:
        """The moment of the next free slot; `now` when nothing was sent lately."""
        slot = max(now, self._free_at)
        self._free_at = slot + self.interval
        return slot


class Turn:
    """The place of one session in the queue of a Pacer."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._slot: float | None = None

    def take(self, now: float) -> bool:
        """Whether a transaction may start at `now`; otherwise ask again at `next_at`."""
        # A slot left unused for long is void: others have been sending since.
        if self._slot is None or self._slot < now - self._pacer.interval:
            self._slot = self._pacer.reserve(now)
        if self._slot > now:
            return False
        self._slot = None
        return True

    @property
    def next_at(self) -> float | None:
        """When the reserved slot comes."""
        return self._slot

    @property
    def interval(self) -> float:
        return self._pacer.interval


def gathering_rto(interval: float, candidates: int) -> float:
    """Seconds; `candidates` is how many server-reflexive and relayed ones are gathered (section 14.3)."""
    return max(MIN_RTO, interval * candidates)


def check_rto(interval: float, waiting: int, in_progress: int, check_lists: int = 1) -> float:
    """Seconds until a check is sent again (section 14.3).

    N is read as RFC 5245 section 16.1 defined it, the number of check lists, so that a whole round of checks
    fits between two transmissions. Read as the number of checks, which the text also allows, ten pairs would
    wait five seconds for the repetition of a lost packet.
    """
    return max(MIN_RTO, interval * check_lists * (waiting + in_progress))
