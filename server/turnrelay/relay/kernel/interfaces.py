"""Interface: a network device that the relay has addresses on, and what XDP can do there."""

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil

XDP_BASIC, XDP_REDIRECT, XDP_NDO_XMIT = 1, 2, 4

_VLANS = Path("/proc/net/vlan/config")
_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 0x10
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 1, 3
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_MESSAGE = struct.Struct("=IHHIIBBH")
"""struct nlmsghdr and struct genlmsghdr."""
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Interface:
    """A device that is up, with an Ethernet address."""

    name: str
    index: int
    mac: str
    mtu: int
    parent: str | None = None
    """The device below a VLAN."""
    vlan: int = 0


def interfaces_of(addresses: Iterable[str]) -> list[Interface]:
    """The devices that these local addresses are on; loopback and devices without Ethernet are left out."""
    wanted = {ip_address(host.partition("%")[0]) for host in addresses}
    vlans = _vlans()
    up = {name: stats for name, stats in psutil.net_if_stats().items() if stats.isup}
    found: list[Interface] = []
    for name, entries in psutil.net_if_addrs().items():
        mac = next((entry.address for entry in entries if entry.family == psutil.AF_LINK), "")
        hosts = [
            ip_address(entry.address.partition("%")[0])
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6)
        ]
        if name not in up or mac in ("", "00:00:00:00:00:00") or len(mac) != 17 or wanted.isdisjoint(hosts):
            continue
        parent, vlan = vlans.get(name, (None, 0))
        with suppress(OSError):  # gone again
            found.append(Interface(name, socket.if_nametoindex(name), mac, up[name].mtu, parent, vlan))
    return found


def xdp_features(ifindex: int) -> int:
    """What the driver can do with XDP, of XDP_BASIC and so on; none where the kernel cannot tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as netlink:
        netlink.settimeout(_TIMEOUT_SECONDS)
        name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        family = _ask(netlink, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name).get(_CTRL_ATTR_FAMILY_ID)
        if family is None:
            return 0
        device = _attribute(_NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
        answer = _ask(netlink, struct.unpack("=H", family)[0], _NETDEV_CMD_DEV_GET, device)
        features = answer.get(_NETDEV_A_DEV_XDP_FEATURES)
        return int.from_bytes(features, "little" if struct.pack("=H", 1)[0] else "big") if features else 0


def _vlans() -> dict[str, tuple[str, int]]:
    """The device below and the number of each VLAN device."""
    try:
        lines = _VLANS.read_text().splitlines()
    except OSError:
        return {}
    rows = [[part.strip() for part in line.split("|")] for line in lines]
    return {row[0]: (row[2], int(row[1])) for row in rows if len(row) == 3 and row[1].isdigit()}


def _ask(netlink: socket.socket, family: int, command: int, payload: bytes) -> dict[int, bytes]:
    """The attributes of the answer; none if it is an error."""
    size = _MESSAGE.size + len(payload)
    netlink.send(_MESSAGE.pack(size, family, _NLM_F_REQUEST, 1, 0, command, 1, 0) + payload)
    answer = netlink.recv(65536)
    if struct.unpack_from("=H", answer, 4)[0] == _NLMSG_ERROR:
        return {}
    return dict(_attributes(answer[_MESSAGE.size : struct.unpack_from("=I", answer)[0]]))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(raw)
        if size < _ATTRIBUTE.size:
            return
        yield kind, raw[_ATTRIBUTE.size : size]
        raw = raw[size + 3 & ~3 :]
