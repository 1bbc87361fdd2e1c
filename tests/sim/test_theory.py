"""What the punching oracle says, against the rules of RFC 4787 written down."""

import pytest

from sim.kinds import AD, APD, EI, KINDS
from sim.nat import NatKind, Ports
from sim.theory import can_punch, direct_path_exists

# Mapping and filtering of single NATs. Two of them connect if one can be found where it was seen: a mapping
# that depends on the destination is met by a filter that does not look at what changes.
TABLE = [
    # a mapping, a filtering, b mapping, b filtering, direct?
    (EI, EI, EI, EI, True),
    (EI, APD, EI, APD, True),
    (EI, EI, APD, APD, True),
    (EI, AD, APD, APD, True),
    (EI, APD, APD, APD, False),
    (EI, APD, AD, APD, False),
    (AD, AD, AD, AD, False),
    (APD, APD, APD, APD, False),
    (EI, APD, EI, EI, True),
    (EI, AD, AD, AD, True),
]


@pytest.mark.parametrize(("am", "af", "bm", "bf", "direct"), TABLE)
def test_known_pairs(am, af, bm, bf, direct):
    a, b = NatKind(am, af, Ports.RANDOM), NatKind(bm, bf, Ports.RANDOM)
    assert direct_path_exists([a], [b]) is direct
    assert direct_path_exists([b], [a]) is direct


def test_it_is_symmetric():
    for a in KINDS:
        for b in KINDS:
            assert can_punch(a, b) == can_punch(b, a), (a, b)


def test_nobody_reaches_a_host_without_udp():
    assert not any(can_punch("udp-blocked", kind) for kind in KINDS)
