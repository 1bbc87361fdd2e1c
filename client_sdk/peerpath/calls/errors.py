"""Why there is no connection to a peer."""

from __future__ import annotations

from peerpath.connection import ConnectionReport
from peerpath.errors import TraversalError


class CallError(TraversalError):
    """There is no connection to the peer: `report` lists what was tried, `details` tells all of it."""

    def __init__(self, message: str, details: ConnectionReport) -> None:
        super().__init__(message, details.failures())
        self.reason = message
        self.details = details


class CallRefused(CallError):
    """The peer's policy says no: trying again will not help."""
