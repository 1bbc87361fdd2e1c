"""Interactive Connectivity Establishment (RFC 8445): finding the path between two peers.

`agent` decides and `gatherer` collects, both without sockets or clock; `stack` is the two of them together,
`endpoint` carries the stack over real sockets. One component per session: what peers exchange is multiplexed.
"""

from peerpath.ice.address_policy import AddressPolicy
from peerpath.ice.agent import IceAgent, NotConnected
from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import Description
from peerpath.ice.options import AgentOptions
from peerpath.ice.outputs import (
    AgentState,
    CandidateFound,
    CandidateRefused,
    ConsentLost,
    DataReceived,
    GatheringComplete,
    NameToResolve,
    Output,
    PairSelected,
    Path,
    PermissionNeeded,
    Refusal,
    RoleChanged,
    StateChanged,
    Transmit,
)
from peerpath.ice.pacer import Pacer
from peerpath.ice.pair import CandidatePair, PairState
from peerpath.ice.role import Role

__all__ = [
    "AddressPolicy",
    "AgentOptions",
    "AgentState",
    "Candidate",
    "CandidateFound",
    "CandidatePair",
    "CandidateRefused",
    "CandidateType",
    "ConsentLost",
    "Credentials",
    "DataReceived",
    "Description",
    "GatheringComplete",
    "IceAgent",
    "LocalCandidate",
    "NameToResolve",
    "NotConnected",
    "Output",
    "Pacer",
    "PairSelected",
    "PairState",
    "Path",
    "PermissionNeeded",
    "Refusal",
    "Role",
    "RoleChanged",
    "StateChanged",
    "Transmit",
]
