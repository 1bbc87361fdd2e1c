"""The router that packets of a local address go through first, asked of the operating system."""

from __future__ import annotations

import ctypes
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import psutil

_ROUTES, _ROUTES6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_UP_AND_GATEWAY = 0x0003
_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where port mapping protocols are spoken to. The ports are other ones in tests alone."""

    host: str
    """Numeric; an IPv6 link-local one with its scope."""
    port: int = 5351
    """Of PCP and NAT-PMP (RFC 6887 section 19.1)."""
    announcement_port: int = 5350
    ssdp_port: int = 1900
    multicast: bool = True
    """Whether UPnP devices are looked for by multicast as well."""


FindGateway = Callable[[str], Gateway | None]
"""From a local address to the gateway of its network, for whoever knows better than `find_gateway`."""


def find_gateway(local_host: str) -> Gateway | None:
    """The default gateway of the interface that has this address; None where there is none to be found."""
    ipv6 = ":" in local_host
    if sys.platform == "linux":
        interface = _interface_of(local_host)
        if interface is None:
            return None
        with suppress(OSError, ValueError):
            text = (_ROUTES6 if ipv6 else _ROUTES).read_text()
            found = gateway6_in(text, interface) if ipv6 else gateway_in(text, interface)
            return None if found is None else Gateway(found)
        return None
    if ipv6:
        return None  # only Linux says it without a library
    host = _ask_windows(local_host) if sys.platform == "win32" else _ask_route_command(local_host)
    return None if host is None else Gateway(host)


def _interface_of(local_host: str) -> str | None:
    wanted = local_host.partition("%")[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address.partition("%")[0] == wanted for address in addresses):
            return name
    return None


def gateway_in(table: str, interface: str) -> str | None:
    """From the text of /proc/net/route: the default route of `interface` with the lowest metric."""
    found: list[tuple[int, str]] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[0] != interface or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        if int(fields[3], 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
            # The kernel prints the four bytes as a number of this machine's byte order.
            found.append((int(fields[6]), socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))))
    return min(found, default=(0, None))[1]


def gateway6_in(table: str, interface: str) -> str | None:
    """The same from /proc/net/ipv6_route; a link-local gateway has the interface as its scope."""
    found: list[tuple[int, str]] = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[9] != interface or fields[0] != "0" * 32 or fields[1] != "00":
            continue
        if int(fields[8], 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
            gateway = IPv6Address(bytes.fromhex(fields[4]))
            scope = f"%{interface}" if gateway.is_link_local else ""
            found.append((int(fields[5], 16), f"{gateway}{scope}"))
    return min(found, default=(0, None))[1]


def _ask_route_command(local_host: str) -> str | None:
    """macOS and the BSDs: route(8), which every one of them has, tells the default route."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["/sbin/route", "-n", "get", "-ifscope", _interface_of(local_host) or "", "default"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return gateway_said(done.stdout)


def gateway_said(text: str) -> str | None:
    """From what route(8) prints."""
    match = re.search(r"^\s*gateway:\s*(\d+\.\d+\.\d+\.\d+)\s*$", text, re.MULTILINE)
    return match[1] if match else None


def _ask_windows(local_host: str) -> str | None:
    """GetBestRoute of iphlpapi fills a MIB_IPFORWARDROW: 14 numbers, the next hop the fourth."""
    row = (ctypes.c_uint32 * 14)()
    [source] = struct.unpack("=I", socket.inet_aton(local_host))
    library = ctypes.CDLL("iphlpapi")
    if library.GetBestRoute(0, source, ctypes.byref(row)) != 0 or row[3] == 0:
        return None
    return socket.inet_ntoa(struct.pack("=I", row[3]))
