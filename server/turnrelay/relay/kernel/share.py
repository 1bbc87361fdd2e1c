"""KernelShare: what one process may use of maps that several processes write to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnrelay.relay.kernel.layouts import LegKey


def _tell_nobody(slot: int, key: LegKey | None) -> None:
    pass


@dataclass(frozen=True, slots=True)
class KernelShare:
    """Slots of legs and numbers of buckets. No other process uses these."""

    slots: Sequence[int]
    """Even ones; the odd one behind each belongs to it."""
    buckets: Sequence[int]
    tells_totals: bool = True
    """Whether this process tells what the programs moved and dropped, which they count for all together."""
    note: Callable[[int, LegKey | None], None] = _tell_nobody
    """Told of each key before its leg of that slot is written, and of None after it was deleted."""
