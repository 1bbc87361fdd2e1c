"""What connects with what: worked out from the rules, so the tests look at what the rules must lead to."""

import itertools

import pytest
from peerpath.nat.behaviour import Dependence, NatBehaviour, NatType, PortAssignment
from peerpath.nat.compatibility import Method, can_connect_directly, predict, typical

EI, AD, APD, UNKNOWN = Dependence

# Row and column in this order; only one half, since the other is its mirror.
TYPES = (
    NatType.OPEN_INTERNET,
    NatType.FULL_CONE,
    NatType.FIREWALL,
    NatType.ADDRESS_RESTRICTED,
    NatType.PORT_RESTRICTED,
    NatType.SYMMETRIC,
    NatType.BLOCKED,
)
D, H, B, R = Method.DIRECT, Method.HOLE_PUNCHING, Method.BIRTHDAY, Method.RELAY
EXPECTED = (
    (D, D, D, D, D, D, R),
    (D, D, D, D, D, R),
    (H, H, H, B, R),
    (H, H, H, R),
    (H, B, R),
    (R, R),
    (R,),
)


def test_the_classes_against_each_other():
    for row, first in enumerate(TYPES):
        for column, second in enumerate(TYPES[row:]):
            assert predict(typical(first), typical(second)) is EXPECTED[row][column], (first, second)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(TYPES, repeat=2)))
def test_it_does_not_matter_who_asks(first, second):
    assert predict(typical(first), typical(second)) is predict(typical(second), typical(first))


@pytest.mark.parametrize("stricter", [AD, APD])
@pytest.mark.parametrize("mapping", [EI, AD, APD])
@pytest.mark.parametrize("peer", TYPES)
def test_a_stricter_filter_never_helps(peer, mapping, stricter):
    order = list(Method)
    loose, strict = (NatBehaviour(mapping, filtering, True) for filtering in (EI, stricter))

    assert order.index(predict(strict, typical(peer))) >= order.index(predict(loose, typical(peer)))


def test_symmetric_reaches_a_filter_that_looks_at_addresses_only():
    # The restricted side sends to the address it knows, which opens its filter for every port of that host.
    assert can_connect_directly(typical(NatType.SYMMETRIC), typical(NatType.ADDRESS_RESTRICTED))
    assert not can_connect_directly(typical(NatType.SYMMETRIC), typical(NatType.PORT_RESTRICTED))


def test_a_port_that_can_be_guessed_is():
    sequential = NatBehaviour(APD, APD, True, port_assignment=PortAssignment.SEQUENTIAL)

    assert predict(sequential, typical(NatType.PORT_RESTRICTED)) is Method.PORT_PREDICTION
    assert predict(sequential, sequential) is Method.PORT_PREDICTION
    assert predict(sequential, typical(NatType.FULL_CONE)) is Method.DIRECT


def test_what_is_unknown_is_taken_for_the_strictest():
    unknown = NatBehaviour(EI, UNKNOWN, True)

    assert predict(unknown, typical(NatType.SYMMETRIC)) is Method.BIRTHDAY
    assert predict(unknown, typical(NatType.PORT_RESTRICTED)) is Method.HOLE_PUNCHING
    assert predict(typical(NatType.UNKNOWN), typical(NatType.UNKNOWN)) is Method.RELAY
