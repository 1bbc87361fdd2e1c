"""A UDP socket on the event loop."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from stunwire import TransportAddress

from peerpath.net.addresses import family_of, from_socket, to_socket

_HOPS = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}

# Neither this system nor a router may cut a packet in two. Python 3.11 has no names for these.
_WHOLE = {
    ("linux", socket.AF_INET): (socket.IPPROTO_IP, 10, 3),  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
    ("linux", socket.AF_INET6): (socket.IPPROTO_IPV6, 23, 3),
    ("darwin", socket.AF_INET): (socket.IPPROTO_IP, 28, 1),  # IP_DONTFRAG
    ("darwin", socket.AF_INET6): (socket.IPPROTO_IPV6, 62, 1),
    ("win32", socket.AF_INET): (socket.IPPROTO_IP, 14, 1),  # IP_DONTFRAGMENT
    ("win32", socket.AF_INET6): (socket.IPPROTO_IPV6, 14, 1),
}
_MAY_BE_CUT = 1252
"""Bytes of payload up to which packets may be cut: those of 1200 inside a Send indication are."""

OnDatagram = Callable[[bytes, TransportAddress], None]

_BATCH = 32
"""Datagrams that are handed over at a time, before anything else on the loop has its turn."""
_LARGEST = 65_536


class DatagramSocket(asyncio.DatagramProtocol):
    """Sends to anybody and hands over what comes. Errors of sending are no news: UDP promises nothing.

    `on_datagram` may be set at any time; what comes while it is None is dropped.
    """

    def __init__(self, on_datagram: OnDatagram | None = None) -> None:
        self.on_datagram = on_datagram
        self.on_error: Callable[[OSError], None] | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._socket: socket.socket | None = None
        """Read here too where that may be: asyncio reads one datagram in each round of the loop."""
        self._is_whole = False

    @classmethod
    async def open(
        cls,
        local: tuple[str, int],
        on_datagram: OnDatagram | None = None,
        *,
        remote: TransportAddress | None = None,
    ) -> DatagramSocket:
        """Bound to `local`, port 0 for any. With `remote` it hears nobody else. OSError as of `bind`."""
        if remote is not None:
            # The loop connects it itself: on Windows it does not take over a socket that is connected.
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: cls(on_datagram), local_addr=local, remote_addr=(remote.host, remote.port)
            )
            return protocol
        made = socket.socket(family_of(local[0]), socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            if made.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(to_socket(local))
            return await cls.adopt(made, on_datagram)
        except BaseException:
            made.close()
            raise

    @classmethod
    async def adopt(cls, sock: socket.socket, on_datagram: OnDatagram | None = None) -> DatagramSocket:
        """Takes over a socket that is bound already."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(lambda: cls(on_datagram), sock=sock)
        if isinstance(loop, asyncio.SelectorEventLoop):
            # Other loops have a read of their own under way, which must not be overtaken.
            protocol._socket = sock
        return protocol

    @property
    def local(self) -> TransportAddress:
        assert self._transport is not None
        return from_socket(self._transport.get_extra_info("sockname"))

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, data: bytes, to: TransportAddress | None = None, *, ttl: int | None = None) -> None:
        """`to` None for a socket with a remote. Nothing is sent once it is closed.

        With `ttl` the packet ends after so many hops. What is larger than 1252 bytes is not cut into pieces.
        """
        if self._transport is None or self._transport.is_closing():
            return
        if ttl is not None:
            with self._hops(ttl):
                self.send(data, to)
            return
        if len(data) > _MAY_BE_CUT and not self._is_whole:
            self._keep_whole()
        try:
            self._transport.sendto(data, None if to is None else to_socket(to))
        except OSError as error:
            # A name of an interface that is gone, for one.
            self.error_received(error)

    def _keep_whole(self) -> None:
        """From here on: larger datagrams ask whether the path carries them, and pieces are no answer."""
        assert self._transport is not None
        self._is_whole = True
        sock = self._transport.get_extra_info("socket")
        option = _WHOLE.get((sys.platform, sock.family))
        if option is not None:
            with suppress(OSError):
                sock.setsockopt(*option)

    @contextmanager
    def _hops(self, ttl: int) -> Iterator[None]:
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        option = _HOPS[sock.family]
        usual = sock.getsockopt(*option)
        sock.setsockopt(*option, ttl)
        try:
            yield
        finally:
            sock.setsockopt(*option, usual)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._hand_over(data, addr)
        for _ in range(_BATCH - 1):
            if self._socket is None or self.is_closing:
                return
            try:
                data, addr = self._socket.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.error_received(error)
                return
            self._hand_over(data, addr)

    def _hand_over(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self.on_datagram is not None:
            self.on_datagram(data, from_socket(addr))

    def error_received(self, exc: Exception) -> None:
        if self.on_error is not None and isinstance(exc, OSError):
            self.on_error(exc)
