"""Counts: what happened at the rendezvous, in classes that may label a metric."""

from collections import Counter
from enum import StrEnum

from stunwire.rendezvous import Result


class Refusal(StrEnum):
    """Why a connection was refused or ended."""

    RATE = "rate"
    CONNECTIONS = "connections"
    HOST = "host"
    PROTOCOL = "protocol"
    SIGNATURE = "signature"
    TIMEOUT = "timeout"
    REPLACED = "replaced"
    STALLED = "stalled"


class Counts:
    """All of them start at zero, so that a first event is seen as an increase."""

    def __init__(self) -> None:
        self._messages: Counter[Result] = Counter()
        self._refusals: Counter[Refusal] = Counter()

    def message(self, result: Result) -> None:
        """A TO had this result."""
        self._messages[result] += 1

    def refusal(self, reason: Refusal) -> None:
        """A connection was refused or ended by the relay."""
        self._refusals[reason] += 1

    def messages(self) -> dict[str, int]:
        """Messages by result."""
        return {result.name.lower(): self._messages[result] for result in Result}

    def refusals(self) -> dict[str, int]:
        """Connections by the reason they were refused for."""
        return {reason.value: self._refusals[reason] for reason in Refusal}
