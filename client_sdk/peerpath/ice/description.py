"""Description: what one agent tells the other apart from single candidates (RFC 8445 section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from peerpath.ice.candidate import Candidate
from peerpath.ice.credentials import Credentials

ICE2 = "ice2"
"""RFC 8445 section 10: the sender keeps to RFC 8445, not RFC 5245."""
TRICKLE = "trickle"
"""RFC 8838 section 3: candidates may follow one by one."""
RENOMINATION = "renomination"
"""A nomination may be followed by a better one, as browsers have it."""


@dataclass(frozen=True, slots=True)
class Description:
    """Credentials, options and the candidates known so far."""

    credentials: Credentials
    candidates: tuple[Candidate, ...] = ()
    lite: bool = False
    options: frozenset[str] = frozenset({ICE2, TRICKLE})
    end_of_candidates: bool = False
    """No candidate will follow (RFC 8838 section 13)."""
