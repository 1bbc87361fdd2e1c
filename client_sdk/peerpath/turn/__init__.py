"""The TURN client (RFC 8656): `client` decides without sockets, `connection` carries it (UDP, TCP, TLS)."""

from peerpath.turn.client import TurnClient
from peerpath.turn.credentials import LongTermCredentials
from peerpath.turn.outputs import (
    Allocated,
    ChannelBound,
    ChannelRefused,
    Ended,
    EndReason,
    FamilyRefused,
    Output,
    PeerData,
    PeerUnreachable,
    PermissionInstalled,
    PermissionRefused,
    Refused,
    Transmit,
    TryAlternate,
)

__all__ = [
    "Allocated",
    "ChannelBound",
    "ChannelRefused",
    "EndReason",
    "Ended",
    "FamilyRefused",
    "LongTermCredentials",
    "Output",
    "PeerData",
    "PeerUnreachable",
    "PermissionInstalled",
    "PermissionRefused",
    "Refused",
    "Transmit",
    "TryAlternate",
    "TurnClient",
]
