"""HostSockets: one UDP socket on each address of this machine, kept in step with what addresses there are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from stunwire import TransportAddress

from peerpath.ice.priority import local_preferences
from peerpath.net.datagrams import DatagramSocket

_MAX_SOCKETS = 8
_PORT_ATTEMPTS = 32
_LOOK_AGAIN_SECONDS = 0.2

Arrived = Callable[[bytes, TransportAddress, TransportAddress], None]


class HostSockets:
    """`hosts` tells the addresses to use, `ports` the range of local ports, (0, 0) for any.

    `opened` is told of each new base with its local preference, `closed` of each that is gone, `arrived` of
    datagrams with the base that they came to and their source.
    """

    def __init__(
        self,
        hosts: Callable[[], Sequence[str]],
        ports: tuple[int, int],
        *,
        arrived: Arrived,
        opened: Callable[[TransportAddress, int], None],
        closed: Callable[[TransportAddress], None],
    ) -> None:
        self._hosts = hosts
        self._ports = ports
        self._arrived = arrived
        self._opened = opened
        self._closed = closed
        self._sockets: dict[TransportAddress, DatagramSocket] = {}

    def __iter__(self) -> Iterator[TransportAddress]:
        """The bases."""
        return iter(list(self._sockets))

    def __len__(self) -> int:
        return len(self._sockets)

    def __contains__(self, base: object) -> bool:
        return base in self._sockets

    @property
    def hosts(self) -> list[str]:
        """The addresses that have a socket."""
        return list(dict.fromkeys(base.host for base in self._sockets))

    async def open(self, patience: float) -> None:
        """The first sockets. Where there is no address, one may come within `patience` seconds.

        An interface that has just come up, or a machine that has just woken, has none for a second or two:
        an IPv6 address cannot be bound to before it is known to be nobody else's (RFC 4862 section 5.4).
        """
        await self.rescan()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self._sockets:
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                    await self.rescan()

    async def rescan(self) -> None:
        """Opens sockets on addresses that are new, and closes those whose address is gone."""
        hosts = list(dict.fromkeys(self._hosts()))[:_MAX_SOCKETS]
        for base, gone in list(self._sockets.items()):
            if base.host not in hosts or gone.is_closing:
                del self._sockets[base]
                gone.close()
                self._closed(base)
        preferences = local_preferences(hosts)
        used = {base.host for base in self._sockets}
        for host in hosts:
            if host not in used:
                with suppress(OSError):
                    self.adopt(made := await self._bind(host))
                    self._opened(made.local, preferences[host])

    def adopt(self, socket: DatagramSocket) -> None:
        """A socket that was opened for something else is one of these from now on."""
        base = socket.local
        socket.on_datagram = lambda data, source: self._arrived(data, base, source)
        self._sockets[base] = socket

    def send(self, data: bytes, base: TransportAddress, to: TransportAddress) -> None:
        self._sockets[base].send(data, to)

    def close(self) -> None:
        sockets, self._sockets = list(self._sockets.values()), {}
        for each in sockets:
            each.close()

    async def _bind(self, host: str) -> DatagramSocket:
        low, high = self._ports
        if high == 0:
            return await DatagramSocket.open((host, 0))
        ports = range(low, high + 1)
        error = OSError(f"no port from {low} to {high} is free")
        for port in random.sample(ports, min(len(ports), _PORT_ATTEMPTS)):
            try:
                return await DatagramSocket.open((host, port))
            except OSError as failure:
                error = failure
        raise error
