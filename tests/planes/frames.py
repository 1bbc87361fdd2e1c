"""UDP datagrams as Ethernet frames: made with every oddity that a network has, and read with every check."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from stunwire import TransportAddress

OUR_MAC = bytes(6)  # that of the loopback device, on which test runs come in
NEXT_MAC = bytes.fromhex("02000000000a")
FAR_MAC = bytes.fromhex("02000000000b")
_UDP = 17
_FRAGMENT_HEADER = 44

Checksum = Literal["right", "none", "unfinished", "wrong"]


@dataclass(frozen=True)
class Frame:
    """One UDP datagram on its way."""

    source: TransportAddress
    destination: TransportAddress
    data: bytes
    ttl: int = 64
    tos: int = 0
    vlan: int = 0
    to_mac: bytes = OUR_MAC
    from_mac: bytes = FAR_MAC
    checksum: Checksum = "right"
    """"unfinished": what a sender on this machine leaves for a device to complete."""
    options: bytes = b""
    """IPv4 options, or an IPv6 extension header."""
    fragment: int = 0
    """The IPv4 field of flags and offset; for IPv6 any value makes it a fragment."""
    trailer: bytes = b""
    """Behind the IP packet, as short frames have it."""
    missing: int = 0
    """Bytes by which the UDP length says more than there is."""

    def encode(self) -> bytes:
        udp = _udp(self)
        addresses = ip_address(self.source.host).packed + ip_address(self.destination.host).packed
        if ":" in self.source.host:
            following, extension = _UDP, self.options
            if self.fragment:
                following, extension = _FRAGMENT_HEADER, struct.pack("!BBHI", _UDP, 0, self.fragment, 7)
            elif self.options:
                following = 60  # destination options
            start = 6 << 28 | self.tos << 20
            ip = struct.pack("!IHBB", start, len(extension) + len(udp), following, self.ttl)
            ip += addresses + extension
            protocol = 0x86DD
        else:
            words = 5 + len(self.options) // 4
            size = 4 * words + len(udp)
            head = struct.pack("!BBHHHBBH", 0x40 | words, self.tos, size, 1, self.fragment, self.ttl, _UDP, 0)
            ip = head + addresses + self.options
            ip = ip[:10] + struct.pack("!H", 0xFFFF ^ _sum(ip)) + ip[12:]
            protocol = 0x0800
        tag = struct.pack("!HH", 0x8100, self.vlan) if self.vlan else b""
        return self.to_mac + self.from_mac + tag + struct.pack("!H", protocol) + ip + udp + self.trailer

    @classmethod
    def decode(cls, raw: bytes) -> "Frame":
        """Raises AssertionError where anything in it is wrong, every checksum among it."""
        at, vlan = 14, 0
        (protocol,) = struct.unpack_from("!H", raw, 12)
        if protocol == 0x8100:
            vlan, protocol = struct.unpack_from("!HH", raw, 14)
            at = 18
        if protocol == 0x0800:
            ip = raw[at : at + 20]
            assert ip[0] == 0x45
            assert _sum(ip) == 0xFFFF, "the IPv4 checksum is wrong"
            tos, size, fragment, ttl = ip[1], *struct.unpack("!H2xHB", ip[2:9])
            source, destination = ip[12:16], ip[16:20]
            udp = raw[at + 20 : at + size]
            assert ip[9] == _UDP
            assert len(udp) == size - 20
        else:
            assert protocol == 0x86DD
            start, size, following, ttl = struct.unpack_from("!IHBB", raw, at)
            assert start >> 28 == 6
            assert following == _UDP
            tos, fragment = start >> 20 & 0xFF, 0
            source, destination = raw[at + 8 : at + 24], raw[at + 24 : at + 40]
            udp = raw[at + 40 : at + 40 + size]
            assert len(udp) == size
        source_port, destination_port, length, check = struct.unpack_from("!HHHH", udp)
        assert length == len(udp), f"UDP says {length} bytes, there are {len(udp)}"
        assert check, "there is no UDP checksum"
        pseudo = source + destination + struct.pack("!HH", _UDP, length)
        assert _sum(pseudo + udp) == 0xFFFF, "the UDP checksum is wrong"
        return cls(
            TransportAddress(str(ip_address(source)), source_port),
            TransportAddress(str(ip_address(destination)), destination_port),
            udp[8:],
            ttl,
            tos,
            vlan,
            raw[:6],
            raw[6:12],
            fragment=fragment,
        )


def _udp(frame: Frame) -> bytes:
    length = 8 + len(frame.data) + frame.missing
    addresses = ip_address(frame.source.host).packed + ip_address(frame.destination.host).packed
    pseudo = addresses + struct.pack("!HH", _UDP, length)
    ports = struct.pack("!HHH", frame.source.port, frame.destination.port, length)
    full = 0xFFFF ^ _sum(pseudo + ports + b"\0\0" + frame.data)
    check = {
        "right": full or 0xFFFF,
        "none": 0,
        "unfinished": _sum(pseudo),
        "wrong": (full + 1) % 0xFFFF or 1,
    }[frame.checksum]
    return ports + struct.pack("!H", check) + frame.data


def _sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def channel_data(channel: int, data: bytes) -> bytes:
    return struct.pack("!HH", channel, len(data)) + data
