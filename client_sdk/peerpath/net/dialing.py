"""TCP connections: made within a limit, and measured."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from stunwire import TransportAddress

from peerpath.net.addresses import family_of, from_socket, to_socket
from peerpath.net.racing import first_success
from peerpath.net.resolving import Resolver
from peerpath.net.waits import Waits, within

STAGGER = 0.25
"""Seconds between attempts at the addresses of one host (RFC 8305 section 5)."""


class Dialed(NamedTuple):
    """A connection, non-blocking. `round_trip` is what one took on it, in seconds."""

    sock: socket.socket
    round_trip: float
    local: TransportAddress

    def close(self) -> None:
        self.sock.close()


Dial = Callable[[str, int], Awaitable[Dialed]]
"""A way to a host, which is a name or an address, and a port. PeerpathError where it leads nowhere."""


async def dial(address: TransportAddress, waits: Waits, local_host: str | None = None) -> Dialed:
    """Connects to `address` by TCP. OSError where nobody is there."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    began = loop.time()
    try:
        sock.setblocking(False)
        if local_host is not None:
            sock.bind(to_socket((local_host, 0)))
        async with within(waits.connect, "connection"):
            await loop.sock_connect(sock, to_socket(address))
    except BaseException:
        sock.close()
        raise
    return Dialed(sock, loop.time() - began, from_socket(sock.getsockname()))


async def dial_host(host: str, port: int, local_host: str | None = None) -> Dialed:
    """Connects to the first address of `host` that takes it. PeerpathError."""
    addresses = await Resolver().addresses(host, port)
    ways = [lambda address=address: dial(address, Waits(), local_host) for address in addresses]
    return await first_success(ways, stagger=STAGGER, discard=Dialed.close)
