"""Which peers a client may reach, in every form in which an address can be written."""

import json
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import TransportAddress
from turnrelay.core.addresses import PeerAddress
from turnrelay.core.protocols import DenyRule
from turnrelay.policy.embedded_ipv4 import embedded_ipv4
from turnrelay.policy.peer_access import PeerAccessPolicy, read_cidr, special_purpose_ranges

RANGES = json.loads(files("turnrelay.policy").joinpath("deny_ranges.json").read_text())
DEFAULT = PeerAccessPolicy()


def verdict(policy: PeerAccessPolicy, host: str, port: int = 5000) -> DenyRule | None:
    return policy.check(PeerAddress(TransportAddress(host, port)))


def embeddings(address: IPv4Address) -> dict[str, IPv6Address]:
    """Every IPv6 form that holds `address`, built bit by bit."""
    value, nat64 = int(address), int(IPv6Address("64:ff9b:1::"))
    high, low = value >> 16, value & 0xFFFF
    return {
        "compatible": IPv6Address(value),
        "mapped": IPv6Address(int(IPv6Address("::ffff:0:0")) | value),
        "translated": IPv6Address(int(IPv6Address("::ffff:0:0:0")) | value),
        "nat64": IPv6Address(int(IPv6Address("64:ff9b::")) | value),
        "nat64 /48": IPv6Address(nat64 | high << 64 | low << 40),
        "nat64 /56": IPv6Address(nat64 | (value >> 24) << 64 | (value & 0xFF_FFFF) << 32),
        "nat64 /64": IPv6Address(nat64 | value << 24),
        "nat64 /96": IPv6Address(nat64 | value),
        "6to4": IPv6Address(f"2002:{high:x}:{low:x}::1"),
        "teredo server": IPv6Address(
            0x2001 << 112 | value << 64 | (int(IPv4Address("8.8.8.8")) ^ 0xFFFFFFFF)
        ),
        "teredo client": IPv6Address(0x2001 << 112 | 0x08080808 << 64 | (value ^ 0xFFFFFFFF)),
        "isatap private": IPv6Address(f"2a00::5efe:{high:x}:{low:x}"),
        "isatap global": IPv6Address(f"2a00::200:5efe:{high:x}:{low:x}"),
    }


@pytest.mark.parametrize("host", RANGES["must_deny"])
def test_denied_by_default(host):
    assert verdict(DEFAULT, host) is DenyRule.SPECIAL_PURPOSE


@pytest.mark.parametrize("host", RANGES["must_allow"])
def test_allowed_by_default(host):
    assert verdict(DEFAULT, host) is None


def addresses_in(networks):
    return st.sampled_from(networks).flatmap(
        lambda network: st.integers(int(network.network_address), int(network.broadcast_address)).map(
            lambda value: ip_address(value) if network.version == 4 else IPv6Address(value)
        )
    )


@given(addresses_in(special_purpose_ranges()))
def test_every_address_of_a_denied_range_is_denied(address):
    assert verdict(DEFAULT, str(address)) is DenyRule.SPECIAL_PURPOSE


@given(addresses_in([network for network in special_purpose_ranges() if network.version == 4]))
def test_a_denied_ipv4_address_is_denied_in_all_embeddings_even_if_all_of_ipv6_is_allowed(address):
    generous = PeerAccessPolicy(allow=["::/0"])
    for form, embedded in embeddings(address).items():
        assert verdict(DEFAULT, str(embedded)) is not None, form
        assert verdict(generous, str(embedded)) is DenyRule.SPECIAL_PURPOSE, form


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_embedded_addresses_are_found(address):
    for form, embedded in embeddings(address).items():
        assert address in {found.address for found in embedded_ipv4(embedded)}, form


@given(st.ip_addresses(v=4))
def test_an_operators_denial_holds_in_all_embeddings(address):
    policy = PeerAccessPolicy(allow=["0.0.0.0/0", "::/0"], deny=[str(address)])
    assert verdict(policy, str(address)) is DenyRule.OPERATOR
    for form, embedded in embeddings(address).items():
        assert verdict(policy, str(embedded)) is DenyRule.OPERATOR, form


@pytest.mark.parametrize(
    ("allow", "deny", "host", "expected"),
    [
        (["10.0.0.0/8"], [], "10.1.2.3", None),
        (["10.0.0.0/8"], [], "11.1.2.3", None),
        (["10.0.0.0/8"], [], "192.168.0.1", DenyRule.SPECIAL_PURPOSE),
        # An allowed IPv4 range opens no translator's or tunnel's way to it.
        (["10.0.0.0/8"], [], "::ffff:10.1.2.3", DenyRule.SPECIAL_PURPOSE),
        (["10.0.0.0/8"], [], "64:ff9b::10.1.2.3", DenyRule.SPECIAL_PURPOSE),
        (["10.0.0.0/8", "::ffff:0:0/96"], [], "::ffff:10.1.2.3", DenyRule.SPECIAL_PURPOSE),
        # An allowed translator opens the public addresses behind it, no private ones.
        (["64:ff9b::/96"], [], "64:ff9b::8.8.8.8", None),
        (["64:ff9b::/96"], [], "64:ff9b::10.1.2.3", DenyRule.SPECIAL_PURPOSE),
        (["64:ff9b::/96", "10.0.0.0/8"], [], "64:ff9b::10.1.2.3", None),
        (["64:ff9b:1:2::/96"], [], "64:ff9b:1:2::8.8.8.8", None),
        (["64:ff9b:1:2::/96"], [], "64:ff9b:1:2::10.1.2.3", DenyRule.SPECIAL_PURPOSE),
        (["64:ff9b:1:2::/96"], [], "64:ff9b:1:3::8.8.8.8", DenyRule.SPECIAL_PURPOSE),
        # The whole block does not tell where the translator puts the address, so all places count.
        (["64:ff9b:1::/48"], [], "64:ff9b:1::10.1.2.3", DenyRule.SPECIAL_PURPOSE),
        (["64:ff9b:1::/48"], [], "64:ff9b:1:a01:2:300::", DenyRule.SPECIAL_PURPOSE),
        # An IPv4-mapped range is the IPv4 range it names.
        (["::ffff:10.0.0.0/104"], [], "10.1.2.3", None),
        ([], ["::ffff:8.8.8.0/120"], "8.8.8.8", DenyRule.OPERATOR),
        ([], ["8.8.8.8"], "8.8.8.8", DenyRule.OPERATOR),
        ([], ["8.8.8.8"], "8.8.4.4", None),
        ([], ["2a00::/16"], "2a00::1", DenyRule.OPERATOR),
        # Denial is stronger, whichever range is narrower.
        (["10.1.2.3"], ["10.0.0.0/8"], "10.1.2.3", DenyRule.OPERATOR),
        (["fd00::/8"], [], "fd00::1", None),
        (["127.0.0.1"], [], "127.0.0.1", None),
    ],
)
def test_operator_rules(allow, deny, host, expected):
    assert verdict(PeerAccessPolicy(allow=allow, deny=deny), host) is expected


@pytest.mark.parametrize("host", ["198.20.0.7", "2a00::7", "2002:c614:7::1", "::ffff:198.20.0.7"])
def test_addresses_of_this_machine_are_denied(host):
    policy = PeerAccessPolicy(local_addresses=["198.20.0.7", "2a00::7"])
    assert verdict(policy, host) is DenyRule.LOCAL_ADDRESS


def test_an_address_of_this_machine_can_be_allowed():
    policy = PeerAccessPolicy(allow=["198.20.0.0/24"], local_addresses=["198.20.0.7"])
    assert verdict(policy, "198.20.0.7") is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::", "::1", "198.20.0.7", "10.0.0.7", "::ffff:127.0.0.1"]
)
def test_own_ports_are_denied_though_the_address_is_allowed(host):
    policy = PeerAccessPolicy(
        allow=["0.0.0.0/0", "::/0"], local_addresses=["198.20.0.7", "10.0.0.7"], own_ports=[3478, 9641]
    )
    assert verdict(policy, host, 9641) is DenyRule.OWN_PORT
    assert verdict(policy, host, 9642) is None


def test_the_same_port_of_another_machine_is_not_ours():
    policy = PeerAccessPolicy(local_addresses=["198.20.0.7"], own_ports=[3478])
    assert verdict(policy, "8.8.8.8", 3478) is None


def test_new_local_addresses_take_effect_at_once():
    policy = PeerAccessPolicy()
    assert verdict(policy, "198.20.0.7") is None
    policy.update_local(["198.20.0.7"], [3478])
    assert verdict(policy, "198.20.0.7") is DenyRule.LOCAL_ADDRESS
    assert verdict(policy, "198.20.0.7", 3478) is DenyRule.OWN_PORT
    policy.update_local([], [])
    assert verdict(policy, "198.20.0.7", 3478) is None


def test_a_zone_changes_nothing():
    policy = PeerAccessPolicy(allow=["fe80::/10"], local_addresses=["fe80::1%eth0"])
    assert verdict(PeerAccessPolicy(), "fe80::1%eth1") is DenyRule.SPECIAL_PURPOSE
    assert verdict(policy, "fe80::1") is None
    assert verdict(PeerAccessPolicy(local_addresses=["fe80::1%2"]), "fe80::1") is DenyRule.LOCAL_ADDRESS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.5/8", "write 10.0.0.0/8 for the range, 10.0.0.5 for it alone"),
        ("10.0.0.0/33", "no range"),
        ("example.org", "no range"),
        ("", "no range"),
        ("fe80::1%eth0", "zone"),
    ],
)
def test_a_bad_range_says_what_is_wrong(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_cidr(text)
