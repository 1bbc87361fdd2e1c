"""What namespaces are furnished with: TUN devices, links, sysctls, and what Linux has no command for."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from support.netns import Namespace, inside

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_DELETE = 1, 2
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4


def tun(namespace: Namespace, name: str) -> int:
    """A new TUN device in the namespace, which lives as long as this descriptor or a copy of it is open.

    No offload is asked for, so the kernel segments and computes checksums before it hands a packet over.
    """
    with inside(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def configure(namespace: Namespace, commands: Iterable[str]) -> None:
    """Many `ip` commands in one go, each without the leading `ip`."""
    feed(["ip", "-n", namespace.name, "-batch", "-"], "\n".join(commands) + "\n")


def load_nft(namespace: Namespace, ruleset: str) -> None:
    feed([*namespace.prefix, "nft", "-f", "-"], ruleset)


def feed(argv: list[str], text: str) -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} said {done.stderr.strip()!r} to:\n{text}")


def sysctl(namespace: Namespace, values: Mapping[str, int]) -> None:
    """Keys as below /proc/sys/net, with slashes."""
    with inside(namespace):
        for key, value in values.items():
            Path("/proc/sys/net", key).write_text(str(value))


def disable_checksum_offload(namespace: Namespace, device: str) -> None:
    """A veth leaves checksums to hardware that it has not; captures and XDP programs would see wrong ones."""
    value = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, 0))
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCETHTOOL, struct.pack("16sP16x", device.encode(), value.buffer_info()[0]))


def flush_conntrack(namespace: Namespace) -> None:
    """Forget all flows: a ctnetlink DELETE that names none."""
    with inside(namespace):
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    with netlink:
        netlink.bind((0, 0))
        kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE
        netlink.send(
            struct.pack("=IHHIIBBH", 20, kind, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0, socket.AF_INET, 0, 0)
        )
        error = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
        if error:
            raise OSError(-error, os.strerror(-error), "flush of conntrack")
