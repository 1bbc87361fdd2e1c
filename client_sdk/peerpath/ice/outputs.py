"""What the agent and the gatherer decide, as values. This is all of it; a driver carries each out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stunwire import TransportAddress

from peerpath.ice.candidate import Candidate, LocalCandidate
from peerpath.ice.role import Role


class AgentState(Enum):
    """All of the states. CONNECTED and COMPLETED are the ones in which data flows."""

    NEW = "new"
    """The peer's credentials are not known yet."""
    CHECKING = "checking"
    CONNECTED = "connected"
    """There is a path; a better one may still be found."""
    COMPLETED = "completed"
    """The path was nominated."""
    DISCONNECTED = "disconnected"
    """The path was lost; every pair is being tried again."""
    FAILED = "failed"
    """Nothing is left to try: only a restart, or a new candidate, helps."""
    CLOSED = "closed"


class Refusal(Enum):
    """Why a candidate is not used, in the words a person gets to read."""

    FORBIDDEN_ADDRESS = "its address is loopback, link-local, multicast, or otherwise no peer's"
    TOO_MANY = "the peer named too many candidates"
    OTHER_SESSION = "it belongs to another ICE session (its ufrag says so)"
    UNSUPPORTED = "its transport or component is not used here"
    UNRESOLVABLE = "its name could not be resolved"
    POLICY = "only relayed candidates are used (relay_only)"


@dataclass(frozen=True, slots=True)
class Path:
    """Where data goes: from `local` to `remote`."""

    local: LocalCandidate
    remote: Candidate
    nominated: bool
    rtt: float | None
    """Seconds, of the check that proved it; None if it had to be repeated."""

    @property
    def is_relayed(self) -> bool:
        """Whether a relay is on the way, of this side or the peer's."""
        return self.local.candidate.is_relayed or self.remote.is_relayed


@dataclass(frozen=True, slots=True)
class Transmit:
    """One datagram from `local` (a socket's address, or a relayed one) to `remote`."""

    data: bytes
    local: TransportAddress
    remote: TransportAddress


@dataclass(frozen=True, slots=True)
class DataReceived:
    """One datagram of the peer, by a path that it has proven to be on."""

    data: bytes
    local: TransportAddress
    remote: TransportAddress


@dataclass(frozen=True, slots=True)
class PermissionNeeded:
    """Checks from the relayed address `relay` to `peer` will follow; the relay must let them through."""

    relay: TransportAddress
    peer: TransportAddress


@dataclass(frozen=True, slots=True)
class NameToResolve:
    """Resolve the host of `candidate`, then add it again with its address (RFC 8828 section 3.2)."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class CandidateFound:
    """A candidate of this side, to be told to the peer at once (RFC 8838 section 9)."""

    candidate: LocalCandidate


@dataclass(frozen=True, slots=True)
class CandidateMapped:
    """A server-reflexive candidate of `base` that is known already is open to everybody: a port mapping."""

    base: TransportAddress
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class GatheringComplete:
    """No candidate of this side will follow: tell the peer (RFC 8838 section 13)."""


@dataclass(frozen=True, slots=True)
class CandidateRefused:
    """A candidate, ours or the peer's, is not used."""

    candidate: Candidate
    reason: Refusal


@dataclass(frozen=True, slots=True)
class PairSelected:
    """Data is sent on this path from now on.

    Said again when it gets nominated, and when signaling tells of the peer's candidate, known until then by
    its checks alone (RFC 8445 section 7.3.1.3).
    """

    path: Path


@dataclass(frozen=True, slots=True)
class PathDoubted:
    """The peer has not answered on the path in use lately: others are tried beside it."""


@dataclass(frozen=True, slots=True)
class ConsentLost:
    """The peer has not answered on this path for 30 s, or refused: nothing is sent there any more."""

    local: TransportAddress
    remote: TransportAddress
    revoked: bool
    """The peer said so (RFC 7675 section 5.2)."""


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """A role conflict was resolved to our cost."""

    role: Role


@dataclass(frozen=True, slots=True)
class StateChanged:
    state: AgentState
    reason: str = ""


Output = (
    Transmit
    | DataReceived
    | PermissionNeeded
    | NameToResolve
    | CandidateFound
    | CandidateMapped
    | GatheringComplete
    | CandidateRefused
    | PairSelected
    | PathDoubted
    | ConsentLost
    | RoleChanged
    | StateChanged
)
