"""Trains: datagrams that arrive coalesced (UDP_GRO). The extension asks for them and takes them apart; Python
reads one datagram at a time."""

import socket
import sys
from contextlib import suppress

_UDP_GRO = (socket.IPPROTO_UDP, 104)
"""Linux 5.0; the socket module does not name it."""


def end_trains(sock: socket.socket) -> None:
    """Datagrams arrive one by one from now on, should another process have asked for trains on this socket.

    What waits is dropped then: once trains are off, nothing tells anymore where their datagrams begin.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):
        if not sock.getsockopt(*_UDP_GRO):
            return
        sock.setsockopt(*_UDP_GRO, 0)
        while True:
            sock.recv(1, socket.MSG_DONTWAIT)
