"""From dialing a key to a connection that lives: signaling, routes (ICE), the secure link, mending.

`Traversal` is the door. A *call* is what one connection goes through, from either side; an *attempt* is one
exchange of signaling with a secure link of its own; a *route* is one ICE session of an attempt, and a restart
is a further route under the same link.
"""

from peerpath.calls.audit import AuditEvent, AuditFile, AuditResult
from peerpath.calls.decision import Authorize, Contacts, Decision, refuse_everybody
from peerpath.calls.errors import CallError, CallRefused
from peerpath.calls.kit import CallOptions
from peerpath.calls.listener import Listener
from peerpath.calls.outcome_reporter import OutcomeReporter
from peerpath.calls.traversal import Connecting, Traversal

__all__ = [
    "AuditEvent",
    "AuditFile",
    "AuditResult",
    "Authorize",
    "CallError",
    "CallOptions",
    "CallRefused",
    "Connecting",
    "Contacts",
    "Decision",
    "Listener",
    "OutcomeReporter",
    "Traversal",
    "refuse_everybody",
]
