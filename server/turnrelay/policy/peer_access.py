"""Which peers a client may reach: public addresses that are not ours, unless the operator says otherwise."""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.resources import files
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple

from turnrelay.core.addresses import PeerAddress
from turnrelay.core.protocols import DenyRule
from turnrelay.policy.embedded_ipv4 import embedded_ipv4

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
_CACHED_HOSTS = 8192


class _Verdict(NamedTuple):
    rule: DenyRule | None
    local: bool
    """Whether a packet to this host would reach this machine, so that its ports are our ports."""


def special_purpose_ranges() -> tuple[IPNetwork, ...]:
    """The ranges of deny_ranges.json: everything that is no ordinary public unicast address."""
    ranges = json.loads(files("turnrelay.policy").joinpath("deny_ranges.json").read_text())
    return tuple(ip_network(cidr) for cidr in ranges["deny_v4"] + ranges["deny_v6"])


def read_cidr(text: str) -> IPNetwork:
    """A range of addresses; ValueError saying what is wrong with it.

    A single address is a range of one. An IPv4-mapped range is the IPv4 range it names: an operator who
    writes ::ffff:10.0.0.0/104 means 10.0.0.0/8, and must not get a rule that no IPv4 peer ever meets.
    """
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("is no range of addresses") from None
    if isinstance(network, IPv6Network) and network.network_address.scope_id is not None:
        raise ValueError("a zone (%...) has no place in a range")
    given = ip_address(text.strip().partition("/")[0])
    if given != network.network_address:
        raise ValueError(
            f"the address has bits outside the mask: write {network} for the range, {given} for it alone"
        )
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        lowest = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((lowest, network.prefixlen - 96))
    return network


def tunnel_ranges() -> tuple[IPNetwork, ...]:
    """The client sources of deny_ranges.json: Teredo and 6to4, whose packets can be sent round in circles."""
    ranges = json.loads(files("turnrelay.policy").joinpath("deny_ranges.json").read_text())
    return tuple(ip_network(entry.partition(" ")[0]) for entry in ranges["client_source_deny"])


class PeerAccessPolicy:
    """Implements `core.protocols.PeerAccess`.

    A peer is judged in every form its address can be read in: an IPv6 address that embeds an IPv4 one may
    be delivered to either, by a translator or a tunnel that the relay does not see. Hence

    - a denial of any form denies the peer, and
    - a peer is admitted only if each form is, so `--allow-peer 10.0.0.0/8` opens 10.1.2.3 and neither
      ::ffff:10.1.2.3 nor 64:ff9b::10.1.2.3. Who runs a NAT64 allows its prefix too (64:ff9b::/96), which
      opens the public IPv4 addresses behind it and still none of the private ones.

    The order, strongest first: the relay's own ports, `--deny-peer`, `--allow-peer`, addresses of this
    machine, special-purpose ranges.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        local_addresses: Iterable[str] = (),
        own_ports: Iterable[int] = (),
    ) -> None:
        """`allow` and `deny` are CIDRs; for the rest see `update_local`. ValueError for bad ones."""
        self._allow = tuple(read_cidr(cidr) for cidr in allow)
        self._deny = tuple(read_cidr(cidr) for cidr in deny)
        self._special = special_purpose_ranges()
        self._tunnels = tunnel_ranges()
        self._classify = lru_cache(_CACHED_HOSTS)(self._classify_host)
        self.update_local(local_addresses, own_ports)

    def update_local(self, addresses: Iterable[str], own_ports: Iterable[int]) -> None:
        """What this machine is now; call it again when an interface or a listener changes.

        `addresses` are those of all interfaces and the external addresses that are mapped to them,
        `own_ports` every port the relay serves on: listeners, HTTP, metrics.
        """
        self._local = frozenset(_read_host(address) for address in addresses)
        self._own_ports = frozenset(own_ports)
        self._classify.cache_clear()

    def check(self, peer: PeerAddress) -> DenyRule | None:
        """The rule that refuses `peer`, or None. ValueError if its host is not numeric."""
        verdict = self._classify(peer.host)
        if verdict.local and peer.port in self._own_ports:
            return DenyRule.OWN_PORT
        return verdict.rule

    def admits_client(self, host: str) -> bool:
        """False for a client behind Teredo or 6to4, unless the operator allowed that range."""
        if ":" not in host:
            return True
        address = _read_host(host)
        return not _within(address, self._tunnels) or _within(address, self._allow)

    def _classify_host(self, host: str) -> _Verdict:
        address = _read_host(host)
        forms: list[IPAddress] = [address, *self._embedded(address)]
        rules = {self._judge(form) for form in forms}
        strongest = next((rule for rule in _STRENGTH if rule in rules), None)
        return _Verdict(strongest, any(self._reaches_this_machine(form) for form in forms))

    def _judge(self, form: IPAddress) -> DenyRule | None:
        if _within(form, self._deny):
            return DenyRule.OPERATOR
        if _within(form, self._allow):
            return None
        if form in self._local:
            return DenyRule.LOCAL_ADDRESS
        if _within(form, self._special):
            return DenyRule.SPECIAL_PURPOSE
        return None

    def _reaches_this_machine(self, form: IPAddress) -> bool:
        # The wildcard counts: Linux delivers what is sent to 0.0.0.0 or :: to the loopback.
        return form.is_loopback or form.is_unspecified or form in self._local

    def _embedded(self, address: IPAddress) -> Iterator[IPv4Address]:
        if isinstance(address, IPv6Address):
            trailing_only = self._translated_at_96(address)
            for found in embedded_ipv4(address):
                if not trailing_only or found.nat64_prefix_length in (None, 96):
                    yield found.address

    def _translated_at_96(self, address: IPv6Address) -> bool:
        """Whether the operator said where the local translator puts IPv4 addresses.

        64:ff9b:1::/48 leaves that open, so all four places count. An allow rule that is a /96, say
        64:ff9b:1:2::/96, tells it: the bits at the other places are then the operator's own prefix, which
        would read as 0.0.0.x and shut what the rule opens. A shorter rule tells nothing: who allows the
        whole /48 may well run a translator on a /96 within it.
        """
        return any(network.prefixlen == 96 and address in network for network in self._allow)


# An address denied on several counts is reported by the operator's own words first.
_STRENGTH = (DenyRule.OPERATOR, DenyRule.LOCAL_ADDRESS, DenyRule.SPECIAL_PURPOSE)


def _within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def _read_host(host: str) -> IPAddress:
    """`host` without its zone: fe80::1%eth0 and fe80::1 are one peer to the relay."""
    return ip_address(host.partition("%")[0])
