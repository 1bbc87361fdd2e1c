"""AddressPolicy: where a peer may make us send packets (RFC 8445 section 19.5.1, RFC 8826 section 4.2.4)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Never a peer of anybody: this machine, this link, groups, nobody.
_NEVER_PEERS = (
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
# Where clouds keep instance metadata and their secrets, besides 169.254.169.254 above.
_METADATA = (
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::/32",  # Amazon
    "fd20:ce::254/128",  # Google
)
_FORBIDDEN: tuple[IpNetwork, ...] = tuple(map(ipaddress.ip_network, _NEVER_PEERS + _METADATA))

_MAX_REMEMBERED = 1024

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressPolicy:
    """Which remote addresses checks may go to. `allow` lists networks that are permitted all the same.

    ValueError for a network that is none.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allowed: tuple[IpNetwork, ...] = tuple(map(ipaddress.ip_network, allow))
        self._verdicts: dict[str, bool] = {}

    def permits(self, host: str, port: int) -> bool:
        """Whether checks may go to this numeric address; False for what is no address at all."""
        verdict = self._verdicts.get(host)
        if verdict is None:
            addresses = _readings(host)
            verdict = bool(addresses) and all(map(self._permits, addresses))
            if len(self._verdicts) >= _MAX_REMEMBERED:
                self._verdicts.clear()
            self._verdicts[host] = verdict
        return verdict and 0 < port < 65536

    def _permits(self, address: IpAddress) -> bool:
        if any(address in network for network in self._allowed):
            return True
        return not any(address in network for network in _FORBIDDEN)


def _readings(host: str) -> tuple[IpAddress, ...]:
    """The address, and the IPv4 address that a translator or tunnel would make of it."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ()
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (address, ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address.teredo is not None:
        return (address, *address.teredo)
    return (address,)


def is_link_local(host: str) -> bool:
    """Whether `host`, numeric, is an IPv6 link-local address (never paired with others, section 6.1.2.2)."""
    return host.lower().startswith(("fe8", "fe9", "fea", "feb")) and ":" in host
