"""Ladder: when which fallback is tried (after RFC 8305: the next one begins before the last has given up).

A network that lets the first fallback through never sees the others: as soon as there is a relayed address,
or a direct path, what has not begun is left alone. It begins after all where that address leads to no path to
the peer, or the path is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerpath.fallbacks import Fallback
from peerpath.ice.relay_plan import Stage


@dataclass(frozen=True, slots=True)
class FallbackEntry:
    """What became of one fallback."""

    fallback: str
    tried: bool
    reason: str
    """What came of it, or why it was not tried."""


class Ladder:
    """Sans-IO. Methods return the stages that are to be begun now."""

    def __init__(self, stages: Sequence[Stage], head_start: float, path_patience: float) -> None:
        self._stages = list(stages)
        self._waiting = [stage for stage in stages if not stage.is_empty]
        self._head_start = head_start
        self._path_patience = path_patience
        self._begun: list[Fallback] = []
        self._running: dict[Fallback, int] = {}
        """Attempts that have not failed; datagrams count as one that never does."""
        self._gave: dict[Fallback, int] = {}
        self._not_needed = ""
        self._next_at: float | None = None
        self._has_met = self._has_path = False
        self._doubt_at: float | None = None
        """When a relayed address should have led to a path."""

    @property
    def waiting(self) -> list[Stage]:
        """What has not begun, and may yet."""
        return list(self._waiting)

    def begin(self, now: float) -> list[Stage]:
        if not self._waiting or self._not_needed:
            self._next_at = None
            return []
        stage = self._waiting.pop(0)
        self._begun.append(stage.fallback)
        self._running[stage.fallback] = len(stage.attempts) + stage.has_datagrams
        self._next_at = now + self._head_start if self._waiting else None
        return [stage]

    def succeeded(self, fallback: Fallback, now: float) -> list[Stage]:
        """There is a relayed address. Returns what will not be tried unless it leads nowhere."""
        self._gave[fallback] = self._gave.get(fallback, 0) + 1
        skipped = self.finish(f"{fallback.value} gave a relayed address first")
        self._doubt_from(now)
        return skipped

    def failed(self, fallback: Fallback, now: float) -> list[Stage]:
        """One attempt failed."""
        self._running[fallback] -= 1
        return [] if any(self._running.values()) else self.begin(now)

    def finish(self, reason: str) -> list[Stage]:
        """Nothing more is needed. Returns what will not be tried unless the path is lost."""
        if self._not_needed:
            return []
        self._not_needed, self._next_at = reason, None
        return self.waiting

    def met(self, now: float) -> None:
        """The peer is known: from now on a relayed address should lead to a path."""
        if not self._has_met:
            self._has_met = True
            self._doubt_from(now)

    def found_path(self) -> None:
        """Data gets through."""
        self._has_path, self._doubt_at = True, None

    def lost_path(self, now: float) -> list[Stage]:
        """It does not any more, or cannot be relied on."""
        self._has_path = False
        return self._go_on(now)

    def next_deadline(self) -> float | None:
        return min((at for at in (self._next_at, self._doubt_at) if at is not None), default=None)

    def handle_timeout(self, now: float) -> list[Stage]:
        if self._doubt_at is not None and now >= self._doubt_at:
            return self._go_on(now)
        return self.begin(now) if self._next_at is not None and now >= self._next_at else []

    def _doubt_from(self, now: float) -> None:
        if self._not_needed and self._has_met and not self._has_path:
            self._doubt_at = now + self._path_patience

    def _go_on(self, now: float) -> list[Stage]:
        self._doubt_at = None
        if not self._not_needed:
            return []
        self._not_needed = ""
        return self.begin(now)

    def entries(self, *, datagrams_over: bool = False) -> tuple[FallbackEntry, ...]:
        """`datagrams_over`: every server that was asked over UDP has answered, or has been given up."""
        return tuple(self._entry(stage, datagrams_over) for stage in self._stages)

    def _entry(self, stage: Stage, datagrams_over: bool) -> FallbackEntry:
        fallback, gave = stage.fallback, self._gave.get(stage.fallback, 0)
        if stage.is_empty:
            return FallbackEntry(fallback.value, False, stage.left_out)
        if fallback not in self._begun:
            return FallbackEntry(fallback.value, False, self._not_needed or "its turn has not come yet")
        if gave:
            return FallbackEntry(fallback.value, True, f"{gave} relayed address{'es' if gave > 1 else ''}")
        running = self._running[fallback] - (stage.has_datagrams and datagrams_over)
        return FallbackEntry(fallback.value, True, "no relayed address" + (" yet" if running else ""))
