"""Packets that the kernel dropped because a socket's receive buffer was full."""

import socket
import struct
import sys

_SO_MEMINFO = 55
"""Linux 4.12; the socket module does not name it. Asked at a scrape, it costs the data path nothing, while
SO_RXQ_OVFL would need recvmsg and its ancillary data for every packet."""
_MEMINFO = struct.Struct("=9I")
_DROPS = 8


def receive_drops(sock: socket.socket) -> int:
    """Packets dropped since the socket was made, of which the kernel counts those that came coalesced as one;
    0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    try:
        counters = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(counters)[_DROPS]) if len(counters) == _MEMINFO.size else 0
