"""The addresses of this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import psutil
from stunwire import TransportAddress

from peerpath.net.addresses import family_of, to_socket

# RFC 5737 and RFC 3849: addresses to ask the routing table about. Nothing is ever sent to them.
_SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def host_addresses() -> list[str]:
    """Every address of an interface that is up, but loopback, link-local, multicast and unspecified ones.

    The ones that this machine would itself choose as a source come first.
    """
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found: list[str] = []
    for name, addresses in psutil.net_if_addrs().items():
        if name not in up:
            continue
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                host = address.address.partition("%")[0]
                if is_usable(host) and host not in found:
                    found.append(host)
    preferred = [source_towards(TransportAddress(where, 9)) for where in _SOMEWHERE.values()]
    return sorted(found, key=lambda host: host not in preferred)


def is_usable(host: str) -> bool:
    """Whether a peer on another machine could have any use for it (RFC 8445 section 5.1.1.1)."""
    address = ip_address(host)
    return not (
        address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    )


def source_towards(address: TransportAddress) -> str | None:
    """The address that packets to `address` would leave from; None when there is no route. Sends nothing."""
    with socket.socket(family_of(address.host), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(to_socket(address))
        except OSError:
            return None
        host: str = probe.getsockname()[0]
        return host
