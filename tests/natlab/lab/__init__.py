"""Real networks with every kind of NAT, made of namespaces: `Lab` builds them, `KINDS` describes them.

Only what builds and describes networks is here; what is run in them belongs to the tests.
"""

from .capture import Capture
from .host import Host
from .impairment import Impairment
from .kinds import KINDS, MATRIX, Dependence, Layer, NatKind, PortAssignment, Realm
from .network import Lab, Server, Site
from .theory import can_punch

__all__ = [
    "KINDS",
    "MATRIX",
    "Capture",
    "Dependence",
    "Host",
    "Impairment",
    "Lab",
    "Layer",
    "NatKind",
    "PortAssignment",
    "Realm",
    "Server",
    "Site",
    "can_punch",
]
