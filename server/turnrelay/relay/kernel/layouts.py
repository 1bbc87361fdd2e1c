"""What the map entries look like: `server/bpf/relay.h` in Python, held to it by a test.

Fields of type `Network16` and `Network32` are in network order; `htons` and `htonl` make them.
"""

import ctypes
import socket

from stunwire import TransportAddress

Network16 = ctypes.c_uint16
Network32 = ctypes.c_uint32
Address = ctypes.c_uint8 * 16
Mac = ctypes.c_uint8 * 6

HOP_TAKES_FRAMES = 1
REFRESH_NS = 10_000_000_000
RETRY_NS = 1_000_000_000
VALID_NS = 30_000_000_000


class LegKey(ctypes.Structure):
    _fields_ = (
        ("remote", Address),
        ("local", Address),
        ("remote_port", Network16),
        ("local_port", Network16),
        ("channel", Network16),
        ("family", ctypes.c_uint8),
        ("zero", ctypes.c_uint8),
    )


class Leg(ctypes.Structure):
    _fields_ = (
        ("expires_ns", ctypes.c_uint64),
        ("source", Address),
        ("destination", Address),
        ("source_port", Network16),
        ("destination_port", Network16),
        ("channel", Network16),
        ("family", ctypes.c_uint8),
        ("hairpin", ctypes.c_uint8),
        ("flow_label", Network32),
        ("slot", ctypes.c_uint32),
        ("allocation_bucket", ctypes.c_uint32),
        ("account_bucket", ctypes.c_uint32),
    )


class Hop(ctypes.Structure):
    _fields_ = (
        ("valid_until_ns", ctypes.c_uint64),
        ("refresh_at_ns", ctypes.c_uint64),
        ("ifindex", ctypes.c_uint32),
        ("mtu", ctypes.c_uint16),
        ("vlan", ctypes.c_uint16),
        ("destination_mac", Mac),
        ("source_mac", Mac),
        ("flags", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
    )


class Counter(ctypes.Structure):
    _fields_ = (("packets", ctypes.c_uint64), ("bytes", ctypes.c_uint64))


class Totals(ctypes.Structure):
    _fields_ = (
        ("packets_to_peer", ctypes.c_uint64),
        ("bytes_to_peer", ctypes.c_uint64),
        ("packets_from_peer", ctypes.c_uint64),
        ("bytes_from_peer", ctypes.c_uint64),
        ("dropped_bandwidth", ctypes.c_uint64),
    )


class Bucket(ctypes.Structure):
    _fields_ = (
        ("paid_at_ns", ctypes.c_uint64),
        ("ns_per_mib", ctypes.c_uint64),
        ("burst_ns", ctypes.c_uint64),
        ("zero", ctypes.c_uint64 * 5),
    )


class Spending(ctypes.Structure):
    _fields_ = (
        ("now_ns", ctypes.c_uint64),
        ("cost_ns", ctypes.c_uint64),
        ("bucket", ctypes.c_uint32),
        ("zero", ctypes.c_uint32),
    )


class LinkKey(ctypes.Structure):
    _fields_ = (
        ("ifindex", ctypes.c_uint32),
        ("vlan", ctypes.c_uint16),
        ("family", ctypes.c_uint8),
        ("zero", ctypes.c_uint8),
        ("address", Address),
    )


class Link(ctypes.Structure):
    _fields_ = (
        ("send_ifindex", ctypes.c_uint32),
        ("send_vlan", ctypes.c_uint16),
        ("mtu", ctypes.c_uint16),
        ("mac", Mac),
        ("tags_seen", ctypes.c_uint8),
        ("zero", ctypes.c_uint8),
        ("hop_flags", ctypes.c_uint32),
    )


class Watch(ctypes.Structure):
    _fields_ = (("blind_ifindex", ctypes.c_uint32), ("refusing_ifindex", ctypes.c_uint32))


class Redirection(ctypes.Structure):
    _fields_ = (("decided_ns", ctypes.c_uint64), ("ifindex", ctypes.c_uint64), ("refused", ctypes.c_uint64))


class MapDefinition(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


def leg_key(remote: TransportAddress, local: TransportAddress, channel: int) -> LegKey:
    """The key of what `remote` sends to `local`; channel 0 for what is no ChannelData."""
    return LegKey(
        packed_address(remote.host),
        packed_address(local.host),
        socket.htons(remote.port),
        socket.htons(local.port),
        socket.htons(channel),
        family_number(local.host),
    )


def link_key(ifindex: int, vlan: int, host: str) -> LinkKey:
    """The key of what arrives for that address of ours."""
    return LinkKey(ifindex, vlan, family_number(host), 0, packed_address(host))


def packed_address(host: str) -> ctypes.Array[ctypes.c_uint8]:
    """The 16 bytes of a numeric address without a scope."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address.from_buffer_copy(socket.inet_pton(family, host).ljust(ctypes.sizeof(Address), b"\0"))


def packed_mac(text: str) -> ctypes.Array[ctypes.c_uint8]:
    """The bytes of `12:34:56:78:9a:bc`."""
    return Mac(*bytes.fromhex(text.replace(":", "").replace("-", "")))


def family_number(host: str) -> int:
    return 6 if ":" in host else 4
