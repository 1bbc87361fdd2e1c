"""Epoch: has the gateway forgotten its mappings? Its count of seconds tells (RFC 6887 section 8.5)."""

from __future__ import annotations


class Epoch:
    """The last epoch value that a gateway said, and when."""

    def __init__(self) -> None:
        self._said: int | None = None
        self._heard_at = 0.0

    def hear(self, value: int, now: float) -> bool:
        """Takes note of a value, seconds of the gateway's clock; False if it has lost its state since.

        RFC 6886 section 3.6 has a coarser rule for NAT-PMP, 7/8 instead of 15/16: what passes here passes
        there, and asking once too often does no harm.
        """
        before, heard_at = self._said, self._heard_at
        self._said, self._heard_at = value, now
        if before is None:
            return True
        if value < before - 1:
            return False
        ours, theirs = now - heard_at, value - before
        return not (ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16)
