"""UdpListener: one listening UDP socket, read without asyncio's datagram protocol."""

import asyncio
import socket
import struct
from typing import Any

from stunwire import MAX_CHANNEL_RFC5766, MIN_CHANNEL

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.relay.flows import SocketAddress, client_socket_address
from turnrelay.relay.plane import Forwarder
from turnrelay.relay.receive_drops import receive_drops
from turnrelay.relay.send_indications import PeerKey, forward_send
from turnrelay.relay.trains import end_trains
from turnrelay.transports.driver import Driver, transport_address

_BATCH = 64
_MAX_DATAGRAM = 65535
_RECEIVE_BUFFER = 4 * 1024 * 1024
"""All clients of an address share its one socket, so it must hold a burst of all of them."""
_CHANNEL_HEADER = struct.Struct("!HH")
_LAST_STUN_BYTE = 3
_UDP = Transport.UDP


class UdpLink:
    """One UDP client on the data path."""

    __slots__ = ("address", "admitted", "channels", "path", "sendto")
    padded = False

    def __init__(self, sock: socket.socket, path: FiveTuple, address: SocketAddress) -> None:
        self.sendto: Any = sock.sendto
        self.path = path
        self.address = address
        self.channels: dict[int, Forwarder] = {}
        self.admitted: dict[PeerKey, Forwarder] = {}


class UdpListener:
    """Reads datagrams of clients: ChannelData goes straight to its flow, and so does a Send indication to a
    peer that the core has admitted before. Other STUN goes to the core.

    A socket is bound to one address, never to the wildcard, so that an answer leaves from the address that
    the client wrote to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        driver: Driver,
        host: str,
        port: int,
        given: socket.socket | None = None,
    ) -> None:
        """`given` is a socket of that address, where somebody else opened it; raises OSError otherwise."""
        self._loop = loop
        self._driver = driver
        self._sock = given or datagram_socket(host, port)
        self._earlier_drops = receive_drops(self._sock)
        """What the process before this one counted."""
        self.address = ServerAddress(transport_address(self._sock.getsockname()))
        self._links: dict[SocketAddress, UdpLink] = {}
        self._buffer = bytearray(_MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._payloads: dict[int, memoryview] = {}
        """The bytes behind a channel header, by length: slices are made once."""
        self.unbound = 0
        """ChannelData for no channel, dropped without an answer."""
        self.garbage = 0
        """Datagrams that are neither STUN nor ChannelData."""
        driver.add_udp(self.address, self)
        if driver.mover is None:
            end_trains(self._sock)
            loop.add_reader(self._sock, self._readable)
        else:
            driver.mover.add_listener(self.address, self._sock, self)

    @property
    def sock(self) -> socket.socket:
        return self._sock

    def close(self) -> None:
        if self._driver.mover is None:
            self._loop.remove_reader(self._sock)
        else:
            self._driver.mover.remove_listener(self.address)
        self._driver.remove_udp(self.address)
        self._sock.close()

    def receive_drops(self) -> int:
        """Packets of clients that the kernel dropped, since the buffer was full."""
        return receive_drops(self._sock) - self._earlier_drops

    # -- Endpoint ---------------------------------------------------------------------------------------

    def reply(self, path: FiveTuple, data: bytes) -> None:
        try:
            self._sock.sendto(data, client_socket_address(path.client))
        except OSError:
            return  # lost like any datagram; the client retransmits

    def link(self, path: FiveTuple) -> UdpLink:
        address = client_socket_address(path.client)
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = UdpLink(self._sock, path, address)
        return link

    def release(self, path: FiveTuple) -> None:
        self._links.pop(client_socket_address(path.client), None)

    # -- the data path ----------------------------------------------------------------------------------

    def receive(self, data: bytes, source: SocketAddress) -> None:
        """A datagram that belongs to none of the mover's flows."""
        if data and data[0] <= _LAST_STUN_BYTE:
            self._receive_message(data, len(data), source, self._driver.clock())
            return
        self._buffer[: len(data)] = data
        self._receive(len(data), source, self._driver.clock())

    def _readable(self) -> None:
        buffer, recvfrom_into, now = self._buffer, self._sock.recvfrom_into, self._driver.clock()
        for _ in range(_BATCH):
            try:
                size, source = recvfrom_into(buffer)
            except OSError:
                return  # nothing more to read, or an error that concerns one datagram
            self._receive(size, source, now)

    def _receive(self, size: int, source: SocketAddress, now: float) -> None:
        """The first `size` bytes of the buffer."""
        channel, length = _CHANNEL_HEADER.unpack_from(self._buffer)
        # Where fewer than four bytes came, what was read is an earlier packet's.
        if size < 4 or not MIN_CHANNEL <= channel <= MAX_CHANNEL_RFC5766:
            self._receive_other(size, source, now)
            return
        link = self._links.get(source)
        forwarder = None if link is None else link.channels.get(channel)
        if forwarder is None or size < 4 + length:
            self.unbound += 1
            return
        payload = self._payloads.get(length)
        if payload is None:
            payload = self._payloads[length] = self._view[4 : 4 + length]
        forwarder.forward(payload, now)

    def _receive_message(
        self, data: bytes | memoryview, size: int, source: SocketAddress, now: float
    ) -> None:
        """The first `size` bytes are STUN. A Send indication to a peer that the core has admitted is sent on,
        anything else is for the core."""
        link = self._links.get(source)
        if link is None:
            path = FiveTuple(_UDP, self.address, ClientAddress(transport_address(source)))
        elif link.admitted and forward_send(memoryview(data), size, link.admitted, now):
            return
        else:
            path = link.path
        self._driver.receive(bytes(data[:size]), path)

    def _receive_other(self, size: int, source: SocketAddress, now: float) -> None:
        """What is no ChannelData: STUN, garbage, and datagrams too short to tell."""
        first = self._buffer[0] if size else 0xFF
        if first <= _LAST_STUN_BYTE:
            self._receive_message(self._view, size, source, now)
        elif MIN_CHANNEL >> 8 <= first <= MAX_CHANNEL_RFC5766 >> 8:
            self.unbound += 1
        else:
            self.garbage += 1


def datagram_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket to listen on, bound; raises OSError. `shared` lets others of this user listen there too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _RECEIVE_BUFFER)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
