"""Role: who nominates (RFC 8445 section 6.1.1), and what if both think they do (section 7.3.1.1)."""

from __future__ import annotations

from enum import Enum, auto
from random import Random


class Role(Enum):
    CONTROLLING = auto()
    CONTROLLED = auto()

    @property
    def other(self) -> Role:
        return Role.CONTROLLED if self is Role.CONTROLLING else Role.CONTROLLING


class Resolution(Enum):
    """How a request that claims our own role is met."""

    SWITCH = auto()
    """We give way and take the other role."""
    REFUSE = auto()
    """The sender gives way: 487."""


# RFC 8445 section 7.3.1.1, whole: (our role, is our tie-breaker larger or equal) -> what to do.
# Both claim that role; with equal tie-breakers nobody knows better, so the request is refused or taken over
# exactly as for a larger one.
CONFLICTS: dict[tuple[Role, bool], Resolution] = {
    (Role.CONTROLLING, True): Resolution.REFUSE,
    (Role.CONTROLLING, False): Resolution.SWITCH,
    (Role.CONTROLLED, True): Resolution.SWITCH,
    (Role.CONTROLLED, False): Resolution.REFUSE,
}


class Standing:
    """An agent's role and tie-breaker. They outlive restarts (section 6.1.1)."""

    def __init__(self, role: Role, random: Random) -> None:
        self.role = role
        self._random = random
        self.tie_breaker = random.getrandbits(64)

    @property
    def is_controlling(self) -> bool:
        return self.role is Role.CONTROLLING

    def resolve(self, claimed: Role, tie_breaker: int) -> Resolution | None:
        """What to do about a request whose sender claims `claimed`; None if there is no conflict."""
        if claimed is not self.role:
            return None
        return CONFLICTS[self.role, self.tie_breaker >= tie_breaker]

    def switch(self) -> None:
        """Takes the other role, as the server of a check."""
        self.role = self.role.other

    def yield_role(self, claimed: Role) -> bool:
        """A check in which we claimed `claimed` met 487; True if that changed the role.

        Section 7.2.5.1: the tie-breaker changes as well, so that two agents that drew the same part company.
        """
        if claimed is not self.role:
            return False
        self.role = claimed.other
        self.tie_breaker = self._random.getrandbits(64)
        return True
