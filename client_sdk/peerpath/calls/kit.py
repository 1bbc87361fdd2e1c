"""CallKit: what all calls of one Traversal share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Protocol

from peerpath.arguments import require_positive
from peerpath.calls.attempt_limit import AttemptLimit
from peerpath.calls.audit import AuditLog
from peerpath.calls.decision import Authorize
from peerpath.connection import ConnectionOptions
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.role import Role
from peerpath.identity import Identity, PublicKey
from peerpath.nat.behaviour import NatBehaviour, NatType
from peerpath.plan import Policy
from peerpath.signaling import ReplayGuard


class MakeEndpoint(Protocol):
    def __call__(self, role: Role, *, relay_only: bool, peer: PublicKey) -> IceEndpoint: ...


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Times are in seconds."""

    timeout: float = 15.0
    """How long a call may take to connect."""
    reconnect_for: float = 600.0
    """How long a connection that was interrupted is tried again, or waited for, before it is given up."""
    reconnect_first: float = 0.5
    """The pause before the second attempt to reconnect; it doubles each time."""
    reconnect_most: float = 30.0
    """The longest pause between two attempts."""
    silent_after: float = 5.0
    """How long nothing of the peer may arrive before the application is told that the path is silent and
    another one is looked for; up to 4 s longer where nothing was sent."""
    lost_after: float = 30.0
    """After so long without a word the link is given up, and made again as `reconnect_for` has it. By default
    the 30 s of consent freshness (RFC 7675); 60 s, the idle timeout of a link, are the most."""
    attempts_per_minute: float = 12.0
    """How often one key may call, on the average."""
    attempts_burst: int = 6
    """How often one key may call in a row."""
    incoming_at_once: int = 64
    """How many calls may be on their way in at the same time, and how many may wait for `authorize`: past
    that the one that has waited longest gives way."""

    def __post_init__(self) -> None:
        for each in fields(self):
            require_positive(each.name, getattr(self, each.name))
        if not 0 < self.silent_after <= self.lost_after:
            raise ValueError(
                f"silent_after: more than 0 and at most lost_after are wanted, not {self.silent_after:g}"
                f" of {self.lost_after:g}"
            )


@dataclass(frozen=True, slots=True)
class CallKit:
    identity: Identity
    endpoint: MakeEndpoint
    authorize: Authorize
    audit: AuditLog
    behaviour: Callable[[], NatBehaviour]
    """What is known of the NAT in front of this machine."""
    policy: Callable[[bool], Policy]
    """What the settings allow towards a peer that is trusted with addresses, or is not."""
    options: CallOptions = field(default_factory=CallOptions)
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    guard: ReplayGuard = field(default_factory=ReplayGuard)
    limit: AttemptLimit = field(default_factory=AttemptLimit)
    """How often one key may call, whichever listeners its calls come to."""

    def nat_type(self) -> NatType:
        return self.behaviour().nat_type
