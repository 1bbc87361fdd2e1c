"""Foundations (RFC 8445 section 5.1.1.3): which candidates share a fate."""

from __future__ import annotations

from peerpath.ice.candidate import CandidateType


class Foundations:
    """Hands out foundations of one agent: the same for the same type, base host, server host and transport.

    `server` is "" for candidates that no server gave.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], str] = {}

    def of(
        self, candidate_type: CandidateType, base_host: str, server: str = "", transport: str = "udp"
    ) -> str:
        """1 to 32 ice-chars."""
        return self._known.setdefault(
            (candidate_type, base_host, server, transport), str(len(self._known) + 1)
        )
