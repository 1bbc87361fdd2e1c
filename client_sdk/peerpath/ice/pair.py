"""CandidatePair and its states (RFC 8445 sections 6.1.2.2 and 6.1.2.6)."""

from __future__ import annotations

from enum import Enum

from stunwire import TransportAddress

from peerpath.ice.candidate import Candidate, LocalCandidate
from peerpath.ice.consent import Consent
from peerpath.ice.priority import pair_priority

PathKey = tuple[TransportAddress, TransportAddress]
"""Base and remote address: two pairs with the same are redundant (section 6.1.2.4)."""


class PairState(Enum):
    FROZEN = "frozen"
    WAITING = "waiting"
    IN_PROGRESS = "in-progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


# All of the state machine is here: figure 6 of section 6.1.2.6, and what triggered checks add to it
# (section 7.3.1.4). A response may also overtake the repetition of a check: from WAITING to SUCCEEDED.
TRANSITIONS: dict[PairState, frozenset[PairState]] = {
    PairState.FROZEN: frozenset({PairState.WAITING}),
    PairState.WAITING: frozenset({PairState.IN_PROGRESS, PairState.SUCCEEDED, PairState.FAILED}),
    PairState.IN_PROGRESS: frozenset({PairState.SUCCEEDED, PairState.FAILED, PairState.WAITING}),
    PairState.SUCCEEDED: frozenset({PairState.FAILED}),
    PairState.FAILED: frozenset({PairState.WAITING, PairState.SUCCEEDED}),
}


class CandidatePair:
    """A local and a remote candidate, and everything that is known of the path between them."""

    __slots__ = (
        "checks_received",
        "checks_sent",
        "consent",
        "created_at",
        "failure",
        "first_check_at",
        "local",
        "nomination",
        "priority",
        "remote",
        "rtt",
        "state",
        "to_be_nominated",
        "valid_at",
        "valid_local",
    )

    def __init__(
        self, local: LocalCandidate, remote: Candidate, *, controlling: bool, created_at: float
    ) -> None:
        self.local = local
        self.remote = remote
        self.state = PairState.FROZEN
        self.created_at = created_at
        self.first_check_at: float | None = None
        self.checks_sent = 0
        self.checks_received = 0
        self.failure = ""
        self.rtt: float | None = None
        self.valid_at: float | None = None
        self.valid_local: LocalCandidate | None = None
        """The candidate that the peer saw, once the pair is valid (section 7.2.5.3.2)."""
        self.consent: Consent | None = None
        self.nomination: int | None = None
        """Which nomination this was; None while there was none. A later one has a higher number."""
        self.to_be_nominated: int | None = None
        """The peer nominated it before it was valid (section 7.3.1.5)."""
        self.priority = 0
        self.compute_priority(controlling)

    @property
    def key(self) -> PathKey:
        return (self.local.base, self.remote.address)

    @property
    def foundation(self) -> tuple[str, str]:
        return (self.local.foundation, self.remote.foundation)

    @property
    def is_valid(self) -> bool:
        """Whether it is on the valid list: checked, and its consent is alive."""
        return self.valid_local is not None

    @property
    def is_nominated(self) -> bool:
        return self.nomination is not None

    @property
    def is_relayed(self) -> bool:
        """Whether a relay is on the way."""
        return self.local.candidate.is_relayed or self.remote.is_relayed

    @property
    def is_doubtful(self) -> bool:
        """The peer has not answered here lately."""
        return self.consent is not None and self.consent.is_doubtful

    def enter(self, state: PairState) -> None:
        """Changes the state; entering the current one does nothing."""
        if state is self.state:
            return
        assert state in TRANSITIONS[self.state], f"{self.state.name} -> {state.name}"
        self.state = state

    def compute_priority(self, controlling: bool) -> None:
        """Anew after a change of role or of a candidate (section 6.1.2.3).

        A valid pair counts with the candidate that the peer saw instead of the base.
        """
        local = (self.valid_local or self.local).priority
        remote = self.remote.priority
        self.priority = pair_priority(local, remote) if controlling else pair_priority(remote, local)

    def invalidate(self, reason: str) -> None:
        """Off the valid list."""
        self.valid_local = self.consent = self.nomination = self.to_be_nominated = None
        self.failure = reason
        if self.state is PairState.FROZEN:
            self.enter(PairState.WAITING)
        self.enter(PairState.FAILED)

    def __repr__(self) -> str:
        # Without addresses, which do not belong in logs unless somebody asks.
        return f"<CandidatePair {self.local.type} to {self.remote.type}, {self.state.value}>"
