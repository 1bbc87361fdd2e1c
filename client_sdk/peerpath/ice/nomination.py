"""Nomination: which valid pair the controlling agent picks, and when (RFC 8445 section 8.1.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from peerpath.ice.options import AgentOptions
from peerpath.ice.pair import CandidatePair, PairState

_OPEN = (PairState.FROZEN, PairState.WAITING, PairState.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Choice:
    """`pair` to nominate now, or None; and when to look again if nothing else happens."""

    pair: CandidatePair | None = None
    look_again_at: float | None = None


def choose(
    pairs: Iterable[CandidatePair],
    selected: CandidatePair | None,
    options: AgentOptions,
    *,
    may_renominate: bool,
    more_to_come: bool,
    now: float,
) -> Choice:
    """The RFC leaves the stopping criterion open. Ours:

    Data flows on any valid pair, so waiting costs nothing but the peers that wait for a nomination. A direct
    pair is nominated at once, or after a moment if better pairs are still under way; a relayed one waits
    longer, since the packets that open both NATs may take a repetition; nothing waits for pairs that are
    worse. `more_to_come` says that candidates are still trickling in.

    Once a pair is selected, only agents that both agreed to renominate move to a better one.
    """
    pairs = list(pairs)
    valid = [pair for pair in pairs if pair.is_valid and not pair.is_doubtful]
    if not valid or (selected is not None and not may_renominate):
        return Choice()
    best = max(valid, key=lambda pair: pair.priority)
    if selected is not None and not _is_improvement(best, selected):
        return Choice()
    better_open = any(pair.state in _OPEN and pair.priority > best.priority for pair in pairs)
    if not better_open and not (more_to_come and best.is_relayed):
        return Choice(best)
    assert best.valid_at is not None
    ready_at = best.valid_at + _grace(best, options, may_renominate)
    return Choice(best) if now >= ready_at else Choice(None, ready_at)


def _is_improvement(best: CandidatePair, selected: CandidatePair) -> bool:
    if best is selected:
        return False
    return selected.is_doubtful or not selected.is_valid or best.priority > selected.priority


def _grace(pair: CandidatePair, options: AgentOptions, may_renominate: bool) -> float:
    if not pair.is_relayed:
        return options.direct_grace
    return options.relay_grace if may_renominate else options.final_relay_grace
