"""Port mapping: asking the router for a way in (PCP, NAT-PMP, UPnP-IGD), keeping it, and giving it back.

`client` and its two dialects `pcp` and `nat_pmp` are sans-IO; `mapper` carries them over sockets, races them
with `upnp`, and keeps what the winner got. Nothing here knows of ICE.
"""

from peerpath.portmap.gateways import Gateway, find_gateway
from peerpath.portmap.mapper import MappingAttempt, PortMapper
from peerpath.portmap.mapping import Granted, Lost, Mapping, MappingError, MappingMethod, Refused

__all__ = [
    "Gateway",
    "Granted",
    "Lost",
    "Mapping",
    "MappingAttempt",
    "MappingError",
    "MappingMethod",
    "PortMapper",
    "Refused",
    "find_gateway",
]
