"""ICMP errors for packets that a relay socket sent (RFC 8656 section 11.5), from Linux' error queue."""

import socket
import struct
import sys
from typing import NamedTuple

from turnrelay.relay.flows import SocketAddress

_LEVELS = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""Level and number of IP_RECVERR and IPV6_RECVERR, which the socket module does not name."""
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
"""struct sock_extended_err: errno, origin, type, code, padding, info, data."""
_FROM_ICMP, _FROM_ICMPV6 = 2, 3
_REPORTED = {_FROM_ICMP: {3, 11}, _FROM_ICMPV6: {1, 2, 3}}
"""The types that are told to clients (RFC 8656 section 11.5)."""
_FRAGMENTATION_NEEDED = {(_FROM_ICMP, 3, 4), (_FROM_ICMPV6, 2, 0)}
_MOST_AT_ONCE = 1024
"""More than a receive buffer of the usual size holds."""


class IcmpError(NamedTuple):
    """An ICMP error about a packet that was sent to `peer`."""

    peer: SocketAddress
    type: int
    code: int
    data: bytes
    """Four bytes: the MTU where the packet was too big, else zero (RFC 8656 section 18.13)."""


def ask_for_errors(sock: socket.socket, family: socket.AddressFamily) -> None:
    """Has the system queue ICMP errors; where it can't, peers just stay silent."""
    if sys.platform == "linux":
        level, option = _LEVELS[family]
        sock.setsockopt(level, option, 1)


def queued_errors(sock: socket.socket) -> list[IcmpError]:
    """Takes all that is in the error queue, up to a bound; other errors than ICMP's are dropped.

    What were left there would fail the next packet: taking one error makes Linux report the one behind it.
    """
    errors: list[IcmpError] = []
    if sys.platform != "linux":
        return errors
    for _ in range(_MOST_AT_ONCE):
        try:
            _, ancillary, _, peer = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            break
        errors += [error for level, kind, raw in ancillary if (error := _read(sock, level, kind, raw, peer))]
    return errors


def _read(sock: socket.socket, level: int, kind: int, raw: bytes, peer: SocketAddress) -> IcmpError | None:
    if (level, kind) != _LEVELS[sock.family] or len(raw) < _EXTENDED_ERROR.size:
        return None
    _, origin, icmp_type, code, _, info, _ = _EXTENDED_ERROR.unpack_from(raw)
    if icmp_type not in _REPORTED.get(origin, ()):
        return None
    mtu = info if (origin, icmp_type, code) in _FRAGMENTATION_NEEDED else 0
    return IcmpError(peer, icmp_type, code, mtu.to_bytes(4, "big"))
