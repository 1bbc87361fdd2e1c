"""What can go wrong, and whose fault it is: the network's, a server's, or the settings'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PeerpathError(Exception):
    """Everything that this package raises on purpose."""


class SettingsError(PeerpathError, ValueError):
    """A setting that cannot be used: `field` names it, the message says what to write instead."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ServerFailure:
    """One server that could not be used, why, and after how many seconds that was known."""

    server: str
    reason: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.server}: {self.reason} (after {self.seconds:.1f} s)"


class TraversalError(PeerpathError):
    """The network let nothing through. `report` lists what was tried, each with its reason and time."""

    def __init__(self, message: str, report: Sequence[ServerFailure] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {entry}" for entry in report)]))
        self.report = tuple(report)


class ServerError(TraversalError):
    """One server could not be used: `server` as it was named, `reason` in words a person can act on."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"{server}: {reason}")
        self.server = server
        self.reason = reason
