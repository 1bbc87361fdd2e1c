"""Send indications as clients write them (RFC 8656 section 11.2): to whom, and where the data lies.

Only the plain ones, of XOR-PEER-ADDRESS and DATA in this order and nothing else. Any other goes the way of
every STUN message: stunwire decodes it and the core decides.
"""

import struct
from collections.abc import Mapping
from socket import AF_INET, AF_INET6, inet_pton

from turnrelay.core.addresses import PeerAddress
from turnrelay.relay.plane import Forwarder

PeerKey = int
"""A peer as it stands in an indication, with what is not the same in each of them taken off."""

_MAGIC_COOKIE = 0x2112A442
_TO_IPV4 = struct.Struct("!IIxxxxxxxxxxxxIQHH")
_TO_IPV6 = struct.Struct("!IIxxxxxxxxxxxxI20sHH")
_SEND = 0x0016 << 16
_IPV4_PEER, _IPV6_PEER = 0x0012_0008, 0x0012_0014
_DATA = 0x0013
_HEADER_BYTES = 20
_IPV4_BYTE, _IPV6_BYTE = 1, 2


def peer_key(peer: PeerAddress) -> PeerKey:
    """The number under which `forward_send` looks a peer up."""
    if ":" in peer.host:
        return _ipv6_key(_IPV6_BYTE, peer.port, int.from_bytes(inet_pton(AF_INET6, peer.host), "big"))
    host = int.from_bytes(inet_pton(AF_INET, peer.host), "big") ^ _MAGIC_COOKIE
    return _IPV4_BYTE << 48 | (peer.port ^ _MAGIC_COOKIE >> 16) << 32 | host


def forward_send(message: memoryview, size: int, admitted: Mapping[PeerKey, Forwarder], now: float) -> bool:
    """Forwards the data if the first `size` bytes are a plain Send indication to one of the admitted peers.

    False for any other message, with which nothing was done.
    """
    if size < _TO_IPV4.size:
        return False
    start, cookie, first, peer, second, length = _TO_IPV4.unpack_from(message)
    header = _TO_IPV4.size
    if first == _IPV6_PEER and size >= _TO_IPV6.size:
        start, cookie, first, value, second, length = _TO_IPV6.unpack_from(message)
        header = _TO_IPV6.size
        mask = int.from_bytes(message[4:20], "big")
        peer = _ipv6_key(
            value[0] << 8 | value[1],
            (value[2] << 8 | value[3]) ^ _MAGIC_COOKIE >> 16,
            int.from_bytes(value[4:], "big") ^ mask,
        )
    elif first != _IPV4_PEER:
        return False
    if (
        start != _SEND | size - _HEADER_BYTES
        or cookie != _MAGIC_COOKIE
        or second != _DATA
        or header + (length + 3 & ~3) != size
    ):
        return False
    forwarder = admitted.get(peer)
    if forwarder is None:
        return False
    forwarder.forward(message[header : header + length], now)
    return True


def _ipv6_key(family: int, port: int, host: int) -> PeerKey:
    return family << 144 | port << 128 | host
