"""CheckList: the pairs of one ICE session, their order and their thawing (RFC 8445 section 6.1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from stunwire import TransportAddress

from peerpath.ice.pair import CandidatePair, PairState, PathKey

_PENDING = (PairState.FROZEN, PairState.WAITING, PairState.IN_PROGRESS)


class CheckList:
    """Holds `limit` pairs at most, best first.

    No more than `limit` are ever checked either, which bounds what a peer that keeps naming candidates can
    make us send (section 19.5.1).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pairs: list[CandidatePair] = []
        self._by_key: dict[PathKey, CandidatePair] = {}
        self._triggered: deque[CandidatePair] = deque()
        self._ever_checked = 0

    def __iter__(self) -> Iterator[CandidatePair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, key: PathKey) -> CandidatePair | None:
        return self._by_key.get(key)

    def count(self, state: PairState) -> int:
        return sum(pair.state is state for pair in self._pairs)

    @property
    def has_work(self) -> bool:
        """Whether `next_check` would find something."""
        if self._triggered:
            return True
        if self.is_spent:
            return False
        return any(pair.state in (PairState.WAITING, PairState.FROZEN) for pair in self._pairs)

    @property
    def is_spent(self) -> bool:
        """As many pairs were checked as a session may check: no further one is begun."""
        return self._ever_checked >= self._limit

    @property
    def is_exhausted(self) -> bool:
        """Every pair has either succeeded or failed (section 6.1.2.1)."""
        if self._triggered:
            return False
        pending = (PairState.IN_PROGRESS,) if self.is_spent else _PENDING
        return not any(pair.state in pending for pair in self._pairs)

    # -- forming ----------------------------------------------------------------------------------------

    def add(self, pair: CandidatePair) -> CandidatePair | None:
        """Puts a pair where its priority says; None if it is redundant or one too many.

        The state follows RFC 8838 section 12, which for one pair after the other comes to the same as
        RFC 8445 section 6.1.2.6 for all at once: it waits if it is the first of its foundation, or if one of
        the foundation has succeeded; otherwise it is frozen until something is known of the others.
        """
        redundant = self._by_key.get(pair.key)
        if redundant is not None and not self._outranks(pair, redundant):
            return None
        if redundant is not None:
            self.remove(redundant)
        elif not self._make_room(pair):
            return None
        states = {other.state for other in self._pairs if other.foundation == pair.foundation}
        if not states or PairState.SUCCEEDED in states:
            pair.enter(PairState.WAITING)
        self._pairs.append(pair)
        self._by_key[pair.key] = pair
        self.sort()
        return pair

    def sort(self) -> None:
        """Best first, after a change of priorities."""
        self._pairs.sort(key=_priority, reverse=True)

    def remove(self, pair: CandidatePair) -> None:
        self._pairs.remove(pair)
        del self._by_key[pair.key]
        self.untrigger(pair)

    def remove_base(self, base: TransportAddress) -> list[CandidatePair]:
        """Takes out the pairs of a base that is gone, and returns them."""
        gone = [pair for pair in self._pairs if pair.local.base == base]
        for pair in gone:
            self.remove(pair)
        return gone

    def _outranks(self, pair: CandidatePair, redundant: CandidatePair) -> bool:
        """RFC 8838 section 10: what has been sent stays; before that, the higher priority does."""
        return redundant.state in (PairState.FROZEN, PairState.WAITING) and pair.priority > redundant.priority

    def _make_room(self, pair: CandidatePair) -> bool:
        """Section 6.1.2.5: the pair of the lowest priority has to go, but not one that was used already."""
        if len(self._pairs) < self._limit:
            return True
        for other in reversed(self._pairs):
            if other.priority >= pair.priority:
                return False
            if other.state in (PairState.FROZEN, PairState.WAITING, PairState.FAILED):
                self.remove(other)
                return True
        return False

    # -- thawing ----------------------------------------------------------------------------------------

    def unfreeze(self, foundation: tuple[str, str]) -> None:
        """Section 7.2.5.3.3: one pair has succeeded, so the others of its foundation may be worth a try."""
        for pair in self._pairs:
            if pair.state is PairState.FROZEN and pair.foundation == foundation:
                pair.enter(PairState.WAITING)

    def _thaw(self) -> None:
        """Section 6.1.4.2 step 2: nobody waits, so one pair of each idle foundation does."""
        if any(pair.state is PairState.WAITING for pair in self._pairs):
            return
        busy = {pair.foundation for pair in self._pairs if pair.state is PairState.IN_PROGRESS}
        for pair in self._pairs:
            if pair.state is PairState.FROZEN and pair.foundation not in busy:
                pair.enter(PairState.WAITING)
                busy.add(pair.foundation)

    # -- checking ---------------------------------------------------------------------------------------

    def trigger(self, pair: CandidatePair, *, urgent: bool = False) -> None:
        """Puts the pair on the queue of triggered checks, once (section 6.1.4.1)."""
        self.untrigger(pair)
        if urgent:
            self._triggered.appendleft(pair)
        else:
            self._triggered.append(pair)

    def untrigger(self, pair: CandidatePair) -> None:
        if pair in self._triggered:
            self._triggered.remove(pair)

    def is_triggered(self, pair: CandidatePair) -> bool:
        return pair in self._triggered

    def next_check(self) -> CandidatePair | None:
        """The pair to check now (section 6.1.4.2); the caller sends the check and enters its state."""
        if self._triggered:
            pair = self._triggered.popleft()
            self._count(pair)
            return pair
        if self.is_spent:
            return None
        self._thaw()
        for pair in self._pairs:
            if pair.state is PairState.WAITING:
                self._count(pair)
                return pair
        return None

    def _count(self, pair: CandidatePair) -> None:
        if pair.first_check_at is None:
            self._ever_checked += 1

    def conclude(self, keep: Callable[[CandidatePair], bool]) -> list[CandidatePair]:
        """Section 8.1.2: a pair was nominated, so all others but those to `keep` are not checked any more."""
        dropped = [pair for pair in self._pairs if pair.state in _PENDING and not keep(pair)]
        for pair in dropped:
            self.remove(pair)
        return dropped

    def reopen(self, pairs: Iterable[CandidatePair]) -> None:
        """Tries pairs again that had failed."""
        self._ever_checked = 0
        for pair in pairs:
            if pair.state is PairState.FAILED:
                pair.enter(PairState.WAITING)
                pair.first_check_at = None


def _priority(pair: CandidatePair) -> int:
    return pair.priority
