"""What two peers say before there is a path between them: channels that carry it, envelopes that protect it.

A channel moves bytes and is trusted with nothing. Dialing and Answering seal what goes through it: signed by
the identity, bound to one attempt, readable by the dialed peer alone. No ICE and no QUIC in here.
"""

from peerpath.signaling.answering import Answering
from peerpath.signaling.channel import MAX_MESSAGE_BYTES, Signaling, SignalingClosed, SignalingError
from peerpath.signaling.dialing import Dialing
from peerpath.signaling.envelope import Route
from peerpath.signaling.manual import ManualSignaling
from peerpath.signaling.memory import MemorySignaling, memory_pair
from peerpath.signaling.rendezvous import PeerAbsent, Rendezvous, RendezvousChannel, RendezvousState
from peerpath.signaling.rendezvous_link import RendezvousError
from peerpath.signaling.replay_guard import ReplayGuard

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Answering",
    "Dialing",
    "ManualSignaling",
    "MemorySignaling",
    "PeerAbsent",
    "Rendezvous",
    "RendezvousChannel",
    "RendezvousError",
    "RendezvousState",
    "ReplayGuard",
    "Route",
    "Signaling",
    "SignalingClosed",
    "SignalingError",
    "memory_pair",
]
