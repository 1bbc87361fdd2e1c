"""Mapping: a port of the router's public address that leads to a socket of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from stunwire import TransportAddress

from peerpath.errors import PeerpathError


class MappingMethod(StrEnum):
    """In the order of preference: what one round trip gets before what takes five."""

    PCP = "pcp"
    NAT_PMP = "nat-pmp"
    UPNP = "upnp"

    @property
    def spoken(self) -> str:
        """As one says it to a person."""
        return {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}[self.value]


@dataclass(frozen=True, slots=True)
class Mapping:
    """`external` leads to `internal` for `lifetime` seconds; where that is infinite, until it is deleted."""

    method: MappingMethod
    internal: TransportAddress
    external: TransportAddress
    lifetime: float
    transport: str = "udp"


@dataclass(frozen=True, slots=True)
class SendToGateway:
    """One datagram for the port of the gateway that this is about."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The gateway speaks this protocol; the mapping itself waits to be asked for."""


@dataclass(frozen=True, slots=True)
class Granted:
    """There is a mapping, or another one than before. Said again only when its addresses change."""

    mapping: Mapping


@dataclass(frozen=True, slots=True)
class Lost:
    """The mapping was not renewed and is no more; nothing further will come."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """There will be no mapping."""

    reason: str


Event = Found | Granted | Lost | Refused
Output = SendToGateway | Event


class MappingError(PeerpathError):
    """Why a gateway gives no mapping, in words for the report."""


def objection(external: TransportAddress) -> str:
    """Why a peer could not use `external`; "" where it could."""
    address = ip_address(external.host)
    if not 0 < external.port < 65536:
        return f"the gateway gave port {external.port}"
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local:
        return f"the gateway gave {external.host}, which is nobody's address"
    if not address.is_global:
        return f"its outer address {external.host} is not public: another NAT is in front of it"
    return ""
