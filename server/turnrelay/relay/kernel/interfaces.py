"""Interface: a network device that the relay has addresses on, or the one below such a VLAN."""

import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import psutil

from turnrelay.relay.kernel.netlink import devices, takes_tags_off


@dataclass(frozen=True)
class Interface:
    """A device that is up, with an Ethernet address."""

    name: str
    index: int
    mac: str
    mtu: int
    kind: str = ""
    """Of those that are not hardware: vlan, bond, bridge, veth ..."""
    addresses: frozenset[str] = frozenset()
    """Those of the relay; none on a device that is only below a VLAN."""
    below: int | None = None
    """The index of the device below a VLAN."""
    vlan: int = 0
    hides_tags: bool = False
    """There are VLANs on it, whose tags it takes off."""


def interfaces_of(addresses: Iterable[str]) -> list[Interface]:
    """The devices that these local addresses are on, and before them those below VLANs; loopback and devices
    without Ethernet are left out."""
    wanted = {str(ip_address(host.partition("%")[0])) for host in addresses}
    known = devices()
    carriers = {device.below for device in known.values()}
    found: dict[int, Interface] = {}
    others: dict[int, Interface] = {}
    up = {name: stats for name, stats in psutil.net_if_stats().items() if stats.isup}
    entries = psutil.net_if_addrs()
    for device in known.values():
        ours = entries.get(device.name, [])
        mac = next((entry.address for entry in ours if entry.family == psutil.AF_LINK), "")
        if device.name not in up or mac in ("", "00:00:00:00:00:00") or len(mac) != 17:
            continue
        here = frozenset(
            str(ip_address(entry.address.partition("%")[0]))
            for entry in ours
            if entry.family in (socket.AF_INET, socket.AF_INET6)
        )
        interface = Interface(
            device.name,
            device.index,
            mac,
            up[device.name].mtu,
            device.kind,
            here & wanted,
            device.below,
            device.vlan,
            device.index in carriers and takes_tags_off(device.name),
        )
        (found if interface.addresses else others)[device.index] = interface
    below = {interface.below for interface in found.values()} & others.keys()
    return [others[index] for index in below if index is not None] + list(found.values())


def shared_addresses(interfaces: Iterable[Interface]) -> set[str]:
    """The addresses that are on several of them."""
    seen = Counter(host for interface in interfaces for host in interface.addresses)
    return {host for host, times in seen.items() if times > 1}
