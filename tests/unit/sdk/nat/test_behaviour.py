"""Classification: tables from RFC 4787 and RFC 5780 to the classes of RFC 3489."""

import pytest
from peerpath.nat.behaviour import (
    Dependence,
    NatBehaviour,
    NatType,
    PortAssignment,
    filtering_of,
    mapping_of,
    port_assignment_of,
)
from stunwire import TransportAddress

EI, AD, APD, UNKNOWN = Dependence
A, B, C = (TransportAddress("203.0.113.1", port) for port in (1, 2, 3))


@pytest.mark.parametrize(
    ("first", "second", "third", "expected"),
    [
        (A, A, A, EI),
        (A, A, None, EI),
        (A, B, B, AD),
        (A, B, C, APD),
        (A, B, None, UNKNOWN),
        (A, None, A, UNKNOWN),
        (None, None, None, UNKNOWN),
    ],
)
def test_mapping(first, second, third, expected):
    assert mapping_of(first, second, third) is expected


@pytest.mark.parametrize(
    ("other_address", "other_port", "expected"),
    [
        (True, True, EI),
        (True, False, EI),
        (False, True, AD),
        (False, False, APD),
        (None, True, UNKNOWN),
        (False, None, UNKNOWN),
    ],
)
def test_filtering(other_address, other_port, expected):
    assert filtering_of(other_address=other_address, other_port=other_port) is expected


@pytest.mark.parametrize(
    ("translated", "mapping", "filtering", "expected"),
    [
        (False, EI, EI, NatType.OPEN_INTERNET),
        (False, EI, AD, NatType.FIREWALL),
        (False, EI, APD, NatType.FIREWALL),
        (False, EI, UNKNOWN, NatType.OPEN_INTERNET),
        (True, EI, EI, NatType.FULL_CONE),
        (True, EI, AD, NatType.ADDRESS_RESTRICTED),
        (True, EI, APD, NatType.PORT_RESTRICTED),
        (True, EI, UNKNOWN, NatType.PORT_RESTRICTED),
        (True, AD, EI, NatType.SYMMETRIC),
        (True, APD, APD, NatType.SYMMETRIC),
        (True, APD, UNKNOWN, NatType.SYMMETRIC),
        (True, UNKNOWN, APD, NatType.UNKNOWN),
        (None, UNKNOWN, UNKNOWN, NatType.UNKNOWN),
    ],
)
def test_class(translated, mapping, filtering, expected):
    assert NatBehaviour(mapping, filtering, translated).nat_type is expected


def test_blocked_is_said_only_where_something_else_than_udp_passes():
    assert NatBehaviour(udp_blocked=True, public_address=A).nat_type is NatType.BLOCKED
    assert NatBehaviour(udp_blocked=True).nat_type is NatType.UNKNOWN


@pytest.mark.parametrize(
    ("local", "mapped", "expected"),
    [
        ([1, 1], [1, 1], PortAssignment.PRESERVED),
        ([1, 2], [5, 7], PortAssignment.SEQUENTIAL),
        ([1, 2], [5, 700], PortAssignment.RANDOM),
        ([1, 2], [7, 5], PortAssignment.RANDOM),
        ([1], [5], PortAssignment.UNKNOWN),
        ([], [], PortAssignment.UNKNOWN),
    ],
)
def test_port_assignment(local, mapped, expected):
    assert port_assignment_of(local, mapped) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("symmetric", NatType.SYMMETRIC),
        ("Symmetric NAT", NatType.SYMMETRIC),
        ("Full Cone", NatType.FULL_CONE),
        ("full-cone NAT", NatType.FULL_CONE),
        ("Port Restricted Cone", NatType.PORT_RESTRICTED),
        ("port_restricted_cone_nat", NatType.PORT_RESTRICTED),
        ("restricted cone", NatType.ADDRESS_RESTRICTED),
        ("Open Internet", NatType.OPEN_INTERNET),
        ("udp-blocked", NatType.BLOCKED),
        ("no_connectivity", NatType.BLOCKED),
        ("unknown", NatType.UNKNOWN),
        *((member.value, member) for member in NatType),
    ],
)
def test_names_are_understood_as_people_write_them(text, expected):
    assert NatType.parse(text) is expected


def test_a_name_of_nothing_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'moebius' is no NAT type: use one of open_internet"):
        NatType.parse("moebius")
