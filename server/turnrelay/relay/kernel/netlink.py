"""Netlink: what the kernel tells about devices, of that what the kernel plane needs."""

import ctypes
import fcntl
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

XDP_BASIC, XDP_REDIRECT, XDP_NDO_XMIT = 1, 2, 4

_ROUTE, _GENERIC = 0, 16
_GENL_ID_CTRL = 0x10
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_CTRL_ATTR_MCAST_GROUPS, _CTRL_ATTR_MCAST_GRP_NAME, _CTRL_ATTR_MCAST_GRP_ID = 7, 1, 2
_NETDEV_GROUP = b"mgmt\0"
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR = 1, 5, 9
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 1, 3
_RTM_GETLINK = 18
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 3, 5, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_VLAN_ID, _IFLA_VLAN_PROTOCOL = 1, 5
_8021Q = 0x8100
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_GENERIC_HEADER = struct.Struct("=BBH")
_LINK_HEADER = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_MOST_BYTES = 1 << 18
_TIMEOUT_SECONDS = 2.0
_SIOCETHTOOL = 0x8946
_ETHTOOL_GFLAGS, _ETH_FLAG_RXVLAN = 0x25, 1 << 8


@dataclass(frozen=True)
class Device:
    """A network device of this namespace."""

    name: str
    index: int
    kind: str
    """Of those that are not hardware, as `ip -d link` names it: vlan, bond, bridge, veth ..."""
    below: int | None = None
    """The device that carries this VLAN, if it is of this namespace and the tags are of 802.1Q."""
    vlan: int = 0


def devices() -> dict[int, Device]:
    """By index; none where the kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT_SECONDS)
        answers = _ask(netlink, _RTM_GETLINK, _NLM_F_DUMP, bytes(_LINK_HEADER.size))
        found = [_device(body) for body in answers]
    return {device.index: device for device in found}


def open_changes() -> list[socket.socket]:
    """Non-blocking sockets that get readable when addresses, devices or their XDP features change; raises
    OSError. What can be read there may have gaps."""
    groups = {_ROUTE: [_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR], _GENERIC: _netdev_groups()}
    sockets = []
    for protocol, numbers in groups.items():
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        sockets.append(netlink)
        netlink.bind((0, 0))  # a socket without a number is left out
        for number in numbers:
            netlink.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, number)
    return sockets


def takes_tags_off(name: str) -> bool:
    """Whether the device takes VLAN tags off what it receives (ethtool's rxvlan)."""
    flags = (ctypes.c_uint32 * 2)(_ETHTOOL_GFLAGS, 0)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(flags))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(OSError):
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    return bool(flags[1] & _ETH_FLAG_RXVLAN)


def xdp_features(ifindex: int) -> int:
    """What the driver can do with XDP, of XDP_BASIC and so on; none where the kernel cannot tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC) as netlink:
        netlink.settimeout(_TIMEOUT_SECONDS)
        family = _netdev(netlink).get(_CTRL_ATTR_FAMILY_ID)
        if family is None:
            return 0
        device = _attribute(_NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
        answer = _ask_generic(netlink, struct.unpack("=H", family)[0], _NETDEV_CMD_DEV_GET, device)
        features = answer.get(_NETDEV_A_DEV_XDP_FEATURES)
        return int.from_bytes(features, sys.byteorder) if features else 0


def _netdev_groups() -> list[int]:
    """Who is told when a device's XDP features change; nobody where the kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC) as netlink:
        netlink.settimeout(_TIMEOUT_SECONDS)
        listed = _netdev(netlink).get(_CTRL_ATTR_MCAST_GROUPS, b"")
    groups = [dict(_attributes(group)) for _, group in _attributes(listed)]
    return [
        int.from_bytes(group[_CTRL_ATTR_MCAST_GRP_ID], sys.byteorder)
        for group in groups
        if group.get(_CTRL_ATTR_MCAST_GRP_NAME) == _NETDEV_GROUP
    ]


def _netdev(netlink: socket.socket) -> dict[int, bytes]:
    """What the kernel tells of its family for devices' features."""
    name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
    return _ask_generic(netlink, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name)


def _device(body: bytes) -> Device:
    """From struct ifinfomsg and attributes."""
    index = _LINK_HEADER.unpack_from(body)[2]
    link = dict(_attributes(body[_LINK_HEADER.size :]))
    information = dict(_attributes(link.get(_IFLA_LINKINFO, b"")))
    kind = _text(information.get(_IFLA_INFO_KIND, b""))
    device = Device(_text(link[_IFLA_IFNAME]), index, kind)
    if kind != "vlan" or _IFLA_LINK_NETNSID in link:
        return device
    vlan = dict(_attributes(information[_IFLA_INFO_DATA]))
    if int.from_bytes(vlan[_IFLA_VLAN_PROTOCOL], "big") != _8021Q:
        return device
    below = int.from_bytes(link[_IFLA_LINK], sys.byteorder)
    return replace(device, below=below, vlan=int.from_bytes(vlan[_IFLA_VLAN_ID], sys.byteorder))


def _ask_generic(netlink: socket.socket, family: int, command: int, payload: bytes) -> dict[int, bytes]:
    """The attributes of the answer; none if it is an error."""
    bodies = _ask(netlink, family, 0, _GENERIC_HEADER.pack(command, 1, 0) + payload)
    return dict(_attributes(bodies[0][_GENERIC_HEADER.size :])) if bodies else {}


def _ask(netlink: socket.socket, kind: int, flags: int, payload: bytes) -> list[bytes]:
    """The bodies of the answers; none if there is an error."""
    netlink.send(_HEADER.pack(_HEADER.size + len(payload), kind, _NLM_F_REQUEST | flags, 1, 0) + payload)
    bodies: list[bytes] = []
    while True:
        raw = netlink.recv(_MOST_BYTES)
        while len(raw) >= _HEADER.size:
            size, answer = _HEADER.unpack_from(raw)[:2]
            if answer == _NLMSG_ERROR:
                return []
            if answer == _NLMSG_DONE:
                return bodies
            bodies.append(raw[_HEADER.size : size])
            raw = raw[size + 3 & ~3 :]
        if not flags & _NLM_F_DUMP:
            return bodies


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(raw)
        if size < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, raw[_ATTRIBUTE.size : size]
        raw = raw[size + 3 & ~3 :]


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode()
