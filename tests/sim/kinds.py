"""The kinds of access that scenarios are made of: stacks of NATs, the one nearest to the host first."""

from __future__ import annotations

from sim.nat import Dependence, NatKind, Ports

EI = Dependence.ENDPOINT_INDEPENDENT
AD = Dependence.ADDRESS_DEPENDENT
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT

HOME = NatKind(EI, APD)
CARRIER = NatKind(EI, EI, Ports.RANDOM, hairpin=True)

KINDS: dict[str, tuple[NatKind, ...]] = {
    "open": (),
    "firewall": (NatKind(EI, APD, translates=False),),
    "full-cone": (NatKind(EI, EI, hairpin=True),),
    "address-restricted": (NatKind(EI, AD, Ports.SEQUENTIAL, hairpin=True),),
    "port-restricted": (HOME,),
    "port-restricted-random": (NatKind(EI, APD, Ports.RANDOM),),
    "address-dependent": (NatKind(AD, AD, Ports.RANDOM),),
    "address-dependent-strict": (NatKind(AD, APD, Ports.SEQUENTIAL),),
    "symmetric": (NatKind(APD, APD, Ports.RANDOM),),
    "symmetric-sequential": (NatKind(APD, APD, Ports.SEQUENTIAL),),
    "symmetric-open": (NatKind(APD, EI, Ports.RANDOM),),
    "cgnat": (HOME, CARRIER),
    "cgnat-symmetric": (HOME, NatKind(APD, APD, Ports.RANDOM)),
    "double-nat": (HOME, HOME),
    "udp-blocked": (NatKind(EI, APD, passes_udp=False),),
}
