"""`/v1/rendezvous`: messages between Ed25519 keys that are connected now. Nothing is stored.

The frames are stunwire.rendezvous; docs/rendezvous.md describes the protocol.
"""

from turnrelay.web.rendezvous.host_names import HostNames
from turnrelay.web.rendezvous.routes import Rendezvous, RendezvousLimits

__all__ = ["HostNames", "Rendezvous", "RendezvousLimits"]
