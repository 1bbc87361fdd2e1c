"""Which of the 144 pairs plain UDP hole punching connects: worked out from the rules, then done for real."""

import itertools
from collections.abc import Iterator

import pytest

from natlab.lab import KINDS, MATRIX, Lab, Site, can_punch
from natlab.lab.probe import Probe
from natlab.lab.punching import punch

PAIRS = list(itertools.product(MATRIX, MATRIX))
EXTRA_KINDS = ["symmetric-block", "cgnat-symmetric", "double-nat", "tcp-443-only", "offline"]


@pytest.fixture(scope="module")
def both_shores(lab_is_possible: None) -> Iterator[tuple[dict[str, Site], dict[str, Site], Probe]]:
    """Every kind twice, so that each can meet its like."""
    with Lab() as lab, Probe(lab.server()) as probe:
        left = {name: lab.site(name) for name in MATRIX}
        right = {name: lab.site(name) for name in [*MATRIX, *EXTRA_KINDS]}
        yield left, right, probe


def test_by_theory_73_of_144_pairs_can_be_punched() -> None:
    assert len(PAIRS) == 144
    assert sum(itertools.starmap(can_punch, PAIRS)) == 73


def test_the_theory_does_not_care_who_is_asked_first() -> None:
    for a, b in itertools.product(KINDS, KINDS):
        assert can_punch(a, b) == can_punch(b, a), (a, b)


def test_a_symmetric_nat_needs_a_peer_whose_filter_ignores_ports() -> None:
    """The best known case (RFC 5128 section 3.3.5), as a witness for the derivation."""
    partners = {name for name in MATRIX if can_punch("symmetric", name)}
    assert partners == {"open", "full-cone", "address-restricted"}


def test_punching_connects_exactly_the_pairs_of_the_theory(
    both_shores: tuple[dict[str, Site], dict[str, Site], Probe],
) -> None:
    left, right, probe = both_shores
    connected = punch([(left[a].host, right[b].host) for a, b in PAIRS], probe)
    report = dict(zip(PAIRS, connected, strict=True))
    _print_matrix(report)
    assert {pair for pair, done in report.items() if done != can_punch(*pair)} == set()
    assert sum(connected) == 73


def test_the_theory_holds_for_the_kinds_beside_the_matrix(
    both_shores: tuple[dict[str, Site], dict[str, Site], Probe],
) -> None:
    left, right, probe = both_shores
    pairs = list(itertools.product(MATRIX, EXTRA_KINDS))
    connected = punch([(left[a].host, right[b].host) for a, b in pairs], probe)
    assert {pair for pair, done in zip(pairs, connected, strict=True) if done != can_punch(*pair)} == set()


def test_two_hosts_behind_one_nat_meet_at_its_outside_if_it_hairpins(lab: Lab) -> None:
    sites = {name: lab.site(name, hosts=2) for name in ("full-cone", "address-restricted", "port-restricted")}
    sites["linux"] = lab.site("linux", hosts=2)
    sites["port-restricted with hairpin"] = lab.site("port-restricted", hosts=2, hairpin=True)
    with Probe(lab.server()) as probe:
        connected = punch([tuple(site.hosts) for site in sites.values()], probe)
    assert dict(zip(sites, connected, strict=True)) == {
        "full-cone": True,
        "address-restricted": True,
        "port-restricted": False,
        "linux": False,
        "port-restricted with hairpin": True,
    }


def test_two_customers_of_one_carrier_meet_at_its_nat(lab: Lab) -> None:
    """RFC 6888 REQ-9 has carriers hairpin; without, neighbours could only meet over a relay."""
    first = lab.site("cgnat")
    neighbour = lab.site("port-restricted", behind=first.behind)
    mute = lab.site("double-nat")
    beside_mute = lab.site("port-restricted", behind=mute.behind)
    with Probe(lab.server()) as probe:
        pairs = [(first.host, neighbour.host), (mute.host, beside_mute.host)]
        assert punch(pairs, probe) == [True, False]
    assert neighbour.public_address == first.public_address


def _print_matrix(connected: dict[tuple[str, str], bool]) -> None:
    print(f"\n{sum(connected.values())} of {len(connected)} pairs connected by plain hole punching")
    for a in MATRIX:
        print(f"{a:>22} {' '.join('x' if connected[a, b] else '.' for b in MATRIX)}")
