"""Every kind of NAT the lab can build, in the terms of RFC 4787: one table for the lab and for the theory.

`KINDS` is what a test asks for by name. A kind is a stack of `Layer`s, the one nearest to the host first; all
kinds but carrier-grade NAT have one. The matrix of the tests is `MATRIX`.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Literal


class Dependence(enum.IntEnum):
    """What a mapping (RFC 4787 section 4.1) or a filter (section 5) depends on. A larger one is stricter."""

    ENDPOINT_INDEPENDENT = 0
    ADDRESS_DEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2


class PortAssignment(enum.StrEnum):
    """How a NAT chooses the external port of a new mapping (RFC 4787 section 4.2)."""

    PRESERVATION = "preservation"  # the internal port where it is free, else a random one; never overloaded
    SEQUENTIAL = "sequential"  # the last one plus 1
    RANDOM = "random"
    BLOCK = "block"  # climbs by 1 to 4 through a block of 512 ports, as carriers hand them out


class Realm(enum.StrEnum):
    """Who does the work."""

    PLAIN = "plain"  # a public host: nothing is translated and nothing is filtered
    FIREWALL = "firewall"  # a public host behind a stateful firewall: nothing is translated
    EXACT = "exact"  # the userspace NAT of this package: exactly the row of the table
    KERNEL = "kernel"  # nftables masquerade: what Linux really does


Passage = Literal["all", "tcp", "tcp-443", "proxy", "none"]
"""What gets through: everything, no UDP, only TCP to port 443, only what the site's proxy sends, nothing."""

EI = Dependence.ENDPOINT_INDEPENDENT
AD = Dependence.ADDRESS_DEPENDENT
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT


@dataclasses.dataclass(frozen=True)
class Layer:
    """One NAT or firewall. Timeouts are in seconds; a test shortens them with `dataclasses.replace`."""

    realm: Realm
    mapping: Dependence
    filtering: Dependence
    ports: PortAssignment = PortAssignment.PRESERVATION
    hairpin: bool = False
    passage: Passage = "all"
    mapping_timeout: float = 120  # RFC 4787 REQ-5: not under two minutes
    tcp_transitory_timeout: float = 240  # RFC 5382 REQ-5
    tcp_established_timeout: float = 7440  # RFC 5382 REQ-5
    icmp_timeout: float = 60  # RFC 5508 REQ-1
    punishment: float = 0  # EXACT only: how long who sends UDP without being asked to is not let in at all
    random_fully: bool = False  # KERNEL only: `masquerade random,fully-random`

    @property
    def translates(self) -> bool:
        return self.realm in (Realm.EXACT, Realm.KERNEL)


@dataclasses.dataclass(frozen=True)
class NatKind:
    """A name and its layers. The properties say what a peer across all layers sees."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def mapping(self) -> Dependence:
        """Of nested NATs the strictest decides: a mapping stays the same only where every layer keeps it."""
        return max(layer.mapping for layer in self.layers)

    @property
    def filtering(self) -> Dependence:
        """Of nested filters the strictest decides: a packet must pass all of them."""
        return max(layer.filtering for layer in self.layers)

    @property
    def ports(self) -> PortAssignment:
        """Seen from outside, the outermost NAT's."""
        return self.layers[-1].ports

    @property
    def hairpin(self) -> bool:
        """The outermost NAT owns the public address, so it is the one that can turn packets round."""
        return self.layers[-1].hairpin

    @property
    def passage(self) -> Passage:
        return next((layer.passage for layer in self.layers if layer.passage != "all"), "all")

    @property
    def udp_passes(self) -> bool:
        return self.passage == "all"

    @property
    def translates(self) -> bool:
        return any(layer.translates for layer in self.layers)


def _exact(mapping: Dependence, filtering: Dependence, ports: PortAssignment, **more) -> Layer:
    return Layer(Realm.EXACT, mapping, filtering, ports, **more)


PRESERVATION, SEQUENTIAL, RANDOM, BLOCK = PortAssignment

# RFC 6888 REQ-1, REQ-7, REQ-9: carriers' NATs map and filter independently of the endpoint and hairpin;
# this one hands out random ports so that nothing behind it can count on preservation.
CARRIER = _exact(EI, EI, RANDOM, hairpin=True)
_HOME = _exact(EI, APD, PRESERVATION)

# name                    realm                mapping  filtering  ports        more
_TABLE: dict[str, tuple[Layer, ...]] = {
    "open":                 (Layer(Realm.PLAIN,    EI,  EI),),
    "firewall":             (Layer(Realm.FIREWALL, EI,  APD),),
    "full-cone":            (_exact(               EI,  EI,  PRESERVATION, hairpin=True),),
    "address-restricted":   (_exact(               EI,  AD,  SEQUENTIAL,   hairpin=True),),
    "port-restricted":      (_exact(               EI,  APD, PRESERVATION),),
    # A conntrack entry is bound to both endpoints, but masquerade keeps the internal port while the 5-tuple
    # that results is free. So the mapping looks independent of the endpoint, and is, until two flows collide.
    "linux":                (Layer(Realm.KERNEL,   EI,  APD, PRESERVATION),),
    "address-dependent":    (_exact(               AD,  AD,  RANDOM),),
    "symmetric":            (_exact(               APD, APD, RANDOM),),
    "symmetric-sequential": (_exact(               APD, APD, SEQUENTIAL),),
    "linux-random":         (Layer(Realm.KERNEL,   APD, APD, RANDOM, random_fully=True),),
    "cgnat":                (_HOME, CARRIER),
    "udp-blocked":          (_exact(               EI,  APD, PRESERVATION, passage="tcp"),),
    # Not in the matrix:
    "symmetric-block":      (_exact(               APD, APD, BLOCK),),
    "cgnat-symmetric":      (_HOME, _exact(        APD, APD, BLOCK,        hairpin=True)),
    "double-nat":           (_HOME, _HOME),
    "punishing":            (_exact(               EI,  APD, PRESERVATION, punishment=30),),
    "tcp-443-only":         (_exact(               EI,  APD, PRESERVATION, passage="tcp-443"),),
    "http-proxy":           (_exact(               EI,  APD, PRESERVATION, passage="proxy"),),
    "offline":              (_exact(               EI,  APD, PRESERVATION, passage="none"),),
}  # fmt: skip

KINDS: dict[str, NatKind] = {name: NatKind(name, layers) for name, layers in _TABLE.items()}

MATRIX: tuple[str, ...] = (
    "open",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "linux",
    "address-dependent",
    "symmetric",
    "symmetric-sequential",
    "linux-random",
    "cgnat",
    "udp-blocked",
)
"""The twelve kinds whose 144 pairs the tests connect."""
