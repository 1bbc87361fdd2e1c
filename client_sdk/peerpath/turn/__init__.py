"""The TURN client (RFC 8656): `client` decides without sockets, `connection` carries it (UDP, TCP, TLS).

With peers over TCP (RFC 6062) they are `tcp_client` and `tcp_allocation`.
"""

from peerpath.turn.client import TurnClient
from peerpath.turn.connection_bind import Bound, ConnectionBind, NotBound
from peerpath.turn.credentials import LongTermCredentials
from peerpath.turn.outputs import (
    Allocated,
    ChannelBound,
    ChannelRefused,
    Ended,
    EndReason,
    FamilyRefused,
    Output,
    PeerArrived,
    PeerConnected,
    PeerData,
    PeerNotConnected,
    PeerUnreachable,
    PermissionInstalled,
    PermissionRefused,
    Refused,
    Transmit,
    TryAlternate,
)
from peerpath.turn.tcp_client import TcpTurnClient

__all__ = [
    "Allocated",
    "Bound",
    "ChannelBound",
    "ChannelRefused",
    "ConnectionBind",
    "EndReason",
    "Ended",
    "FamilyRefused",
    "LongTermCredentials",
    "NotBound",
    "Output",
    "PeerArrived",
    "PeerConnected",
    "PeerData",
    "PeerNotConnected",
    "PeerUnreachable",
    "PermissionInstalled",
    "PermissionRefused",
    "Refused",
    "TcpTurnClient",
    "Transmit",
    "TryAlternate",
    "TurnClient",
]
