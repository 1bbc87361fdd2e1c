"""Transport addresses on the wire, plain (RFC 8489 section 14.1) and XORed (section 14.2).

`socket` lends its address conversions only; nothing here opens one.
"""

from __future__ import annotations

from enum import IntEnum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import NamedTuple

from stunwire.message_types import MAGIC_COOKIE


class AddressFamily(IntEnum):
    """The IANA registry "STUN address families" of RFC 8489 section 14.1."""

    IPV4 = 0x01
    IPV6 = 0x02


class TransportAddress(NamedTuple):
    """A host as canonical text (what inet_ntop gives) and a port."""

    host: str
    port: int


_IPV4 = Struct("!xBH4s")
_XOR_IPV4 = Struct("!xBHI")
_IPV6 = Struct("!xBH16s")
_XOR_PORT = MAGIC_COOKIE >> 16
_IPV4_BYTE, _IPV6_BYTE = int(AddressFamily.IPV4), int(AddressFamily.IPV6)


def decode_address(value: bytes, _transaction_id: bytes) -> TransportAddress:
    """A plain address attribute; ValueError for a wrong length or an unknown family."""
    size = len(value)
    if size == _IPV4.size and value[1] == _IPV4_BYTE:
        _, port, packed = _IPV4.unpack(value)
        return TransportAddress(inet_ntop(AF_INET, packed), port)
    if size == _IPV6.size and value[1] == _IPV6_BYTE:
        _, port, packed = _IPV6.unpack(value)
        return TransportAddress(inet_ntop(AF_INET6, packed), port)
    raise ValueError(_complaint(value))


def decode_xor_address(value: bytes, transaction_id: bytes) -> TransportAddress:
    """A XORed address attribute; ValueError for a wrong length or an unknown family."""
    size = len(value)
    if size == _IPV4.size and value[1] == _IPV4_BYTE:
        _, port, host = _XOR_IPV4.unpack(value)
        packed = (host ^ MAGIC_COOKIE).to_bytes(4, "big")
        return TransportAddress(inet_ntop(AF_INET, packed), port ^ _XOR_PORT)
    if size == _IPV6.size and value[1] == _IPV6_BYTE:
        _, port, packed = _IPV6.unpack(value)
        return TransportAddress(inet_ntop(AF_INET6, _xor_ipv6(packed, transaction_id)), port ^ _XOR_PORT)
    raise ValueError(_complaint(value))


def encode_address(address: tuple[str, int], _transaction_id: bytes) -> bytes:
    """The inverse of `decode_address`. A `%scope` is dropped: it means nothing on another machine."""
    host, port = address
    if ":" in host:
        return _IPV6.pack(_IPV6_BYTE, port, inet_pton(AF_INET6, host.partition("%")[0]))
    return _IPV4.pack(_IPV4_BYTE, port, inet_pton(AF_INET, host))


def encode_xor_address(address: tuple[str, int], transaction_id: bytes) -> bytes:
    """The inverse of `decode_xor_address`."""
    host, port = address
    if ":" in host:
        packed = _xor_ipv6(inet_pton(AF_INET6, host.partition("%")[0]), transaction_id)
        return _IPV6.pack(_IPV6_BYTE, port ^ _XOR_PORT, packed)
    number = int.from_bytes(inet_pton(AF_INET, host), "big")
    return _XOR_IPV4.pack(_IPV4_BYTE, port ^ _XOR_PORT, number ^ MAGIC_COOKIE)


def _xor_ipv6(packed: bytes, transaction_id: bytes) -> bytes:
    pad = MAGIC_COOKIE << 96 | int.from_bytes(transaction_id, "big")
    return (int.from_bytes(packed, "big") ^ pad).to_bytes(16, "big")


def _complaint(value: bytes) -> str:
    if len(value) < 4:
        return f"{len(value)} bytes, an address takes at least 4"
    if value[1] in (_IPV4_BYTE, _IPV6_BYTE):
        return f"{len(value)} bytes do not fit address family {value[1]}"
    return f"unknown address family {value[1]}"
