"""NatBehaviour: a NAT in the terms of RFC 4787, and in the four classes that people know from RFC 3489."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from stunwire import TransportAddress


class Dependence(StrEnum):
    """What a mapping (RFC 4787 section 4.1) or a filter (section 5) depends on."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    UNKNOWN = "unknown"


class PortAssignment(StrEnum):
    """How external ports are chosen (RFC 4787 section 4.2), as far as a handful of mappings shows."""

    PRESERVED = "preserved"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    UNKNOWN = "unknown"


class NatType(StrEnum):
    """The classes of RFC 3489, with what they leave out."""

    OPEN_INTERNET = "open_internet"
    """Nothing is translated, and nothing is known to be filtered."""
    FIREWALL = "firewall"
    """Nothing is translated, but only answers are let in: what RFC 3489 calls a symmetric UDP firewall."""
    FULL_CONE = "full_cone"
    ADDRESS_RESTRICTED = "address_restricted"
    PORT_RESTRICTED = "port_restricted"
    """Also a NAT with such a mapping whose filtering could not be tested: the strictest is assumed."""
    SYMMETRIC = "symmetric"
    """A mapping that depends on whom one talks to, by address alone or by port as well."""
    BLOCKED = "blocked"
    """No UDP passes."""
    UNKNOWN = "unknown"

    @property
    def spoken(self) -> str:
        """As one says it to a person."""
        return _SPOKEN[self]

    @classmethod
    def parse(cls, text: str) -> NatType:
        """From its value, its spoken form or another spelling of them; ValueError, naming the choices."""
        normal = text.strip().lower().replace("-", "_").replace(" ", "_")
        normal = _ALIASES.get(normal.removesuffix("_nat").removesuffix("_cone"), normal)
        try:
            return cls(normal.removesuffix("_nat"))
        except ValueError:
            choices = ", ".join(member.value for member in cls)
            raise ValueError(f"{text!r} is no NAT type: use one of {choices}") from None


_SPOKEN = {
    NatType.OPEN_INTERNET: "Open Internet",
    NatType.FIREWALL: "Firewall without address translation",
    NatType.FULL_CONE: "Full Cone",
    NatType.ADDRESS_RESTRICTED: "Address Restricted Cone",
    NatType.PORT_RESTRICTED: "Port Restricted Cone",
    NatType.SYMMETRIC: "Symmetric",
    NatType.BLOCKED: "UDP blocked",
    NatType.UNKNOWN: "Unknown",
}
_ALIASES = {
    "open": "open_internet",
    "none": "open_internet",
    "full": "full_cone",
    "restricted": "address_restricted",
    "address_restricted": "address_restricted",
    "port_restricted": "port_restricted",
    "symmetric_firewall": "firewall",
    "udp_blocked": "blocked",
    "no_connectivity": "blocked",
}


@dataclass(frozen=True, slots=True)
class NatBehaviour:
    """What was found out. None and UNKNOWN say that it could not be."""

    mapping: Dependence = Dependence.UNKNOWN
    filtering: Dependence = Dependence.UNKNOWN
    translated: bool | None = None
    """Whether the public address differs from the local one."""
    udp_blocked: bool = False
    hairpinning: bool | None = None
    """Whether two hosts behind this NAT reach each other by their public addresses; None where none is."""
    port_assignment: PortAssignment = PortAssignment.UNKNOWN
    public_address: TransportAddress | None = None
    local_address: TransportAddress | None = None
    server: TransportAddress | None = None
    """Whose answers this rests on."""
    mapping_lifetime: float | None = None
    """Seconds that an idle mapping lives, where that was measured."""
    notes: tuple[str, ...] = ()
    """What a person should know about how sure this is."""

    @property
    def nat_type(self) -> NatType:
        if self.udp_blocked:
            return NatType.BLOCKED if self.public_address is not None else NatType.UNKNOWN
        if self.translated is None:
            return NatType.UNKNOWN
        if not self.translated:
            return _UNTRANSLATED[self.filtering]
        if self.mapping is Dependence.UNKNOWN:
            return NatType.UNKNOWN
        if self.mapping is not Dependence.ENDPOINT_INDEPENDENT:
            return NatType.SYMMETRIC
        return _CONES[self.filtering]


_UNTRANSLATED = {
    Dependence.ENDPOINT_INDEPENDENT: NatType.OPEN_INTERNET,
    Dependence.ADDRESS_DEPENDENT: NatType.FIREWALL,
    Dependence.ADDRESS_AND_PORT_DEPENDENT: NatType.FIREWALL,
    Dependence.UNKNOWN: NatType.OPEN_INTERNET,
}
_CONES = {
    Dependence.ENDPOINT_INDEPENDENT: NatType.FULL_CONE,
    Dependence.ADDRESS_DEPENDENT: NatType.ADDRESS_RESTRICTED,
    Dependence.ADDRESS_AND_PORT_DEPENDENT: NatType.PORT_RESTRICTED,
    Dependence.UNKNOWN: NatType.PORT_RESTRICTED,
}


def mapping_of(
    first: TransportAddress | None, second: TransportAddress | None, third: TransportAddress | None
) -> Dependence:
    """RFC 5780 section 4.3: how a socket was seen by (A1, P1), by (A2, P1) and by (A2, P2)."""
    if first is None or second is None:
        return Dependence.UNKNOWN
    if second == first:
        return Dependence.ENDPOINT_INDEPENDENT
    if third is None:
        return Dependence.UNKNOWN
    return Dependence.ADDRESS_DEPENDENT if third == second else Dependence.ADDRESS_AND_PORT_DEPENDENT


def filtering_of(*, other_address: bool | None, other_port: bool | None) -> Dependence:
    """RFC 5780 section 4.4: whether answers came in from (A2, P2) and from (A1, P2). None: not tested."""
    if other_address:
        return Dependence.ENDPOINT_INDEPENDENT
    if other_address is None or other_port is None:
        return Dependence.UNKNOWN
    return Dependence.ADDRESS_DEPENDENT if other_port else Dependence.ADDRESS_AND_PORT_DEPENDENT


def mapping_from_plain_servers(
    seen: dict[TransportAddress, TransportAddress],
) -> tuple[Dependence, str | None]:
    """From how plain servers (keys) saw one socket (values); and what that leaves open.

    Servers at two addresses are needed; two ports of one address tell the dependent kinds apart.
    """
    hosts = {server.host for server in seen}
    if len(hosts) < 2:
        return Dependence.UNKNOWN, "Servers at two addresses are needed to tell how the NAT maps."
    if len(set(seen.values())) == 1:
        return Dependence.ENDPOINT_INDEPENDENT, None
    by_host = [{mapped for server, mapped in seen.items() if server.host == host} for host in hosts]
    twice_asked = [
        mapped
        for host, mapped in zip(hosts, by_host, strict=True)
        if sum(server.host == host for server in seen) > 1
    ]
    if not twice_asked:
        note = "Whether the mapping depends on the port as well could not be told: the stricter is assumed."
        return Dependence.ADDRESS_AND_PORT_DEPENDENT, note
    if all(len(mapped) == 1 for mapped in twice_asked):
        return Dependence.ADDRESS_DEPENDENT, None
    return Dependence.ADDRESS_AND_PORT_DEPENDENT, None


def port_assignment_of(local_ports: list[int], mapped_ports: list[int]) -> PortAssignment:
    """From mappings in the order in which they were made: the local port of each and its external port."""
    if not mapped_ports:
        return PortAssignment.UNKNOWN
    if local_ports == mapped_ports:
        return PortAssignment.PRESERVED
    if len(mapped_ports) < 2:
        return PortAssignment.UNKNOWN
    steps = [later - earlier for earlier, later in pairwise(mapped_ports)]
    # Other hosts behind the same NAT make mappings in between, so small gaps are still a sequence.
    return PortAssignment.SEQUENTIAL if all(0 < step <= 8 for step in steps) else PortAssignment.RANDOM
