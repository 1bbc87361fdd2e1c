"""GatewayLink: carries a PCP or NAT-PMP client over a UDP socket that hears the gateway alone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence

from stunwire import TransportAddress

from peerpath.net.addresses import to_socket
from peerpath.net.alarm import Alarm
from peerpath.net.datagrams import DatagramSocket
from peerpath.portmap.client import GatewayClient
from peerpath.portmap.gateways import Gateway
from peerpath.portmap.mapping import Event, Output, SendToGateway

_ALL_HOSTS = "224.0.0.1"

OnEvent = Callable[[Event], None]


class GatewayLink:
    """`on_event` is told what becomes of the mapping. OSError of `open` when nothing can be sent."""

    def __init__(self, client: GatewayClient, gateway: Gateway, on_event: OnEvent) -> None:
        self.client = client
        self._gateway = gateway
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._socket: DatagramSocket | None = None
        self._announcements: DatagramSocket | None = None
        self._alarm = Alarm(self._loop, self._on_time)

    async def open(self) -> None:
        """Begins to ask."""
        host = self._gateway.host
        # RFC 6887 section 8.1: from the very address that the mapping is for.
        local = to_socket((self.client.internal.host, 0))
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.bind(local)
            self._socket = await DatagramSocket.adopt(made, self._received)
        except BaseException:
            made.close()
            raise
        self._do(self.client.start(self._loop.time()))

    async def listen(self) -> None:
        """To what the gateway announces; without effect where the port is not to be had."""
        if ":" in self._gateway.host:
            return
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Some systems ask for this one where several programs want to hear the same group.
            if hasattr(socket, "SO_REUSEPORT"):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(("", self._gateway.announcement_port))
            group = struct.pack(
                "4s4s", socket.inet_aton(_ALL_HOSTS), socket.inet_aton(self.client.internal.host)
            )
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            self._announcements = await DatagramSocket.adopt(made, self._announced)
        except OSError:
            made.close()

    def carry(self, outputs: Sequence[Output]) -> None:
        """What a method of the client returned that somebody else has called."""
        self._do(outputs)

    def close(self) -> None:
        """Gives the mapping back."""
        if self._socket is None:
            return
        self._do(self.client.close(self._loop.time()))
        self._alarm.cancel()
        self._socket.close()
        self._socket = None
        if self._announcements is not None:
            self._announcements.close()

    def _received(self, data: bytes, source: TransportAddress) -> None:
        if source.host.partition("%")[0] != self._gateway.host.partition("%")[0]:
            return
        if source.port == self._gateway.port:
            self._do(self.client.receive(data, self._loop.time()))

    def _announced(self, data: bytes, source: TransportAddress) -> None:
        if source.host == self._gateway.host:
            self._do(self.client.announced(data, self._loop.time()))

    def _do(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if not isinstance(output, SendToGateway):
                self._on_event(output)
            elif self._socket is not None:
                self._socket.send(output.data, TransportAddress(self._gateway.host, self._gateway.port))
        self._alarm.set(None if self._socket is None else self.client.next_deadline())

    def _on_time(self) -> None:
        self._do(self.client.handle_timeout(self._loop.time()))
