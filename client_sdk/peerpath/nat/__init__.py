"""What the NAT in front of this machine does (RFC 4787), how that is found out (RFC 5780), what it means."""

from peerpath.nat.behaviour import Dependence, NatBehaviour, NatType, PortAssignment
from peerpath.nat.compatibility import Method, can_connect_directly, predict
from peerpath.nat.discoverer import discover_behaviour

__all__ = [
    "Dependence",
    "Method",
    "NatBehaviour",
    "NatType",
    "PortAssignment",
    "can_connect_directly",
    "discover_behaviour",
    "predict",
]
