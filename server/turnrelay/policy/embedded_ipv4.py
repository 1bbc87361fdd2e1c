"""IPv4 addresses inside IPv6 addresses: where a translator or a tunnel would send the packet instead."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import NamedTuple

_LOW_32 = 0xFFFF_FFFF

# The forms that hold the IPv4 address in the last 32 bits.
_TRAILING = (
    IPv6Network("::/96"),  # IPv4-compatible, RFC 4291 section 2.5.5.1
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291 section 2.5.5.2
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765
    IPv6Network("64:ff9b::/96"),  # NAT64 with the well-known prefix, RFC 6052 section 2.1
)
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # upper half of the interface identifier, RFC 5214 section 6.1

NAT64_PREFIX_LENGTHS = (48, 56, 64, 96)
"""Where a translator for 64:ff9b:1::/48 may put the IPv4 address (RFC 6052 section 2.2)."""


class Embedded(NamedTuple):
    """An IPv4 address found in an IPv6 one."""

    address: IPv4Address
    nat64_prefix_length: int | None = None
    """Set when the address only counts if the translator uses a prefix of this length."""


def embedded_ipv4(address: IPv6Address) -> Iterator[Embedded]:
    """Every IPv4 address that `address` can be read to hold; none for an ordinary one."""
    value = int(address)
    if any(address in network for network in _TRAILING):
        yield Embedded(IPv4Address(value & _LOW_32))
    if address in _NAT64_LOCAL:
        for length in NAT64_PREFIX_LENGTHS:
            yield Embedded(_nat64(value, length), length)
    if address in _SIX_TO_FOUR:
        yield Embedded(IPv4Address(value >> 80 & _LOW_32))
    if address in _TEREDO:
        yield Embedded(IPv4Address(value >> 64 & _LOW_32))  # the Teredo server
        yield Embedded(IPv4Address(value & _LOW_32 ^ _LOW_32))  # the client, sent inverted
    if value >> 32 & _LOW_32 in _ISATAP:
        yield Embedded(IPv4Address(value & _LOW_32))


def _nat64(value: int, prefix_length: int) -> IPv4Address:
    """The 32 bits after the prefix, skipping bits 64 to 71, which RFC 6052 keeps zero."""
    if prefix_length == 96:
        return IPv4Address(value & _LOW_32)
    # Close the gap of 8 bits: the IPv4 address is then contiguous.
    high, low = value >> 64, value & (1 << 56) - 1
    return IPv4Address((high << 56 | low) >> (88 - prefix_length) & _LOW_32)
