"""Which addresses this machine has, and which of them peers should be given."""

import socket
from ipaddress import ip_address

import psutil

# Reserved for documentation: nothing is ever sent, the system only chooses the source address of a route.
_SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
_DISCARD_PORT = 9


def local_addresses(link_local: bool = False) -> list[str]:
    """Every address of every interface that is up; link-local IPv6 ones, without their scope, if wanted."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    addresses = [
        entry.address.partition("%")[0]
        for name, entries in psutil.net_if_addrs().items()
        if name in up
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return [host for host in dict.fromkeys(addresses) if link_local or not host.startswith("fe80:")]


def expand(listen: list[str]) -> list[str]:
    """The addresses that `--listen` names: wildcards become every address of their family."""
    hosts: list[str] = []
    for host in listen or ["0.0.0.0", "::"]:
        if host == "0.0.0.0":
            hosts += [local for local in local_addresses() if ":" not in local]
        elif host == "::":
            hosts += [local for local in local_addresses() if ":" in local]
        else:
            hosts.append(host)
    return list(dict.fromkeys(hosts))


def detect_relay_addresses() -> list[str]:
    """The address of each family that packets to the internet would leave from.

    Without any route the first address that is not loopback serves, else loopback: then at least clients on
    this machine can be relayed. Where only IPv6 has a route, loopback is no IPv4 address to promise.
    """
    found = [host for host in (_source_address(socket.AF_INET), _source_address(socket.AF_INET6)) if host]
    if not any(":" not in host for host in found):
        others = [host for host in local_addresses() if ":" not in host]
        found[:0] = [host for host in others if not ip_address(host).is_loopback][:1]
        found = found or others[:1]
    return found


def _source_address(family: socket.AddressFamily) -> str | None:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_SOMEWHERE[family], _DISCARD_PORT))
        except OSError:
            return None
        host: str = probe.getsockname()[0]
    if "%" in host or host.startswith("fe80:") or ip_address(host).is_loopback:
        return None
    return host
