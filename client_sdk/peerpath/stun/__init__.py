"""The STUN client (RFC 8489): what is this machine's public address? `binding` decides, the rest carries."""

from peerpath.stun.binding import BindingAnswer, BindingOptions, BindingRequests
from peerpath.stun.client import PublicAddress, StunClient
from peerpath.stun.servers import StunServer

__all__ = [
    "BindingAnswer",
    "BindingOptions",
    "BindingRequests",
    "PublicAddress",
    "StunClient",
    "StunServer",
]
