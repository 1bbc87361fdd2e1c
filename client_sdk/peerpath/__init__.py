"""NAT traversal for chat clients."""

from peerpath.errors import PeerpathError, ServerError, ServerFailure, SettingsError, TraversalError
from peerpath.settings import Settings
from peerpath.stun.simple import STUNClient, STUNResponse
from peerpath.traversal import NATTraversal

__version__ = "0.1.0"

__all__ = [
    "NATTraversal",
    "PeerpathError",
    "STUNClient",
    "STUNResponse",
    "ServerError",
    "ServerFailure",
    "Settings",
    "SettingsError",
    "TraversalError",
    "__version__",
]
