"""Just enough of IPv4, IPv6, UDP, TCP and ICMP to rewrite a packet in place and keep its checksums right."""

from __future__ import annotations

import struct

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
IPV6_FRAGMENT = 44

# Where a checksum stands in its transport header.
CHECKSUM_OFFSET = {UDP: 6, TCP: 16}

ICMP_ECHO_REPLY, ICMP_UNREACHABLE, ICMP_ECHO, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM = 0, 3, 8, 11, 12
ICMP_ERRORS = frozenset({ICMP_UNREACHABLE, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM})

TCP_FIN, TCP_SYN, TCP_RST, TCP_ACK = 0x01, 0x02, 0x04, 0x10


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The Internet checksum of RFC 1071."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def difference(old: bytes, new: bytes) -> int:
    """What to hand to `adjust` after these bytes, at an even offset, became those."""
    count = len(old) // 2
    total = sum(struct.unpack(f">{count}H", new)) + sum(
        ~word & 0xFFFF for word in struct.unpack(f">{count}H", old)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def adjust(packet: bytearray, offset: int, delta: int) -> None:
    """RFC 1624 equation 3: HC' = ~(~HC + ~m + m'), without reading what the checksum covers."""
    total = (~(packet[offset] << 8 | packet[offset + 1]) & 0xFFFF) + delta
    total = (total & 0xFFFF) + (total >> 16)
    total = ~total & 0xFFFF
    packet[offset] = total >> 8
    packet[offset + 1] = total & 0xFF


def adjust_udp(packet: bytearray, offset: int, delta: int) -> None:
    """As `adjust`; zero says that the sender computed none (RFC 768), so it stays and is never made."""
    if packet[offset] or packet[offset + 1]:
        adjust(packet, offset, delta)
        if not (packet[offset] or packet[offset + 1]):
            packet[offset] = packet[offset + 1] = 0xFF


def swap_endpoints(endpoints: bytes) -> bytes:
    """Source address, destination address, source port, destination port: as the other side writes them."""
    return endpoints[4:8] + endpoints[0:4] + endpoints[10:12] + endpoints[8:10]
