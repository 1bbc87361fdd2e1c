"""NAT traversal for chat clients."""

from peerpath.calls import (
    AuditEvent,
    AuditFile,
    AuditResult,
    CallError,
    CallOptions,
    CallRefused,
    Contacts,
    Decision,
    Listener,
    OutcomeReporter,
    Traversal,
)
from peerpath.connection import (
    Connection,
    ConnectionClosed,
    ConnectionOptions,
    ConnectionState,
    Path,
    PathEvent,
    Stream,
)
from peerpath.errors import PeerpathError, ServerError, ServerFailure, SettingsError, TraversalError
from peerpath.identity import Identity, IdentityError, PublicKey
from peerpath.settings import Settings, TurnServerSettings
from peerpath.stun.simple import STUNClient, STUNResponse
from peerpath.traversal import NATTraversal

__version__ = "0.1.0"

__all__ = [
    "AuditEvent",
    "AuditFile",
    "AuditResult",
    "CallError",
    "CallOptions",
    "CallRefused",
    "Connection",
    "ConnectionClosed",
    "ConnectionOptions",
    "ConnectionState",
    "Contacts",
    "Decision",
    "Identity",
    "IdentityError",
    "Listener",
    "NATTraversal",
    "OutcomeReporter",
    "Path",
    "PathEvent",
    "PeerpathError",
    "PublicKey",
    "STUNClient",
    "STUNResponse",
    "ServerError",
    "ServerFailure",
    "Settings",
    "SettingsError",
    "Stream",
    "Traversal",
    "TraversalError",
    "TurnServerSettings",
    "__version__",
]
