"""A client on TLS whose ciphertext can be cut anywhere, and what it takes to serve one."""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from stunwire import StreamFramer, TransportAddress
from support.certificates import Certificates
from turnrelay.core.addresses import Transport
from turnrelay.transports.tls import TlsContexts
from unit.relay.loopback import V4


class Authority:
    """A certificate for the loopback, and the contexts of both sides."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates.issue(folder, V4)
        self.server = TlsContexts.load(self.certificates.chain, self.certificates.key).turn

    def client(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        context.minimum_version = context.maximum_version = version
        return context


class TlsEnd:
    """Sends and reads as it is told to, nothing by itself."""

    transport = Transport.TLS

    def __init__(self, server: TransportAddress, context: ssl.SSLContext) -> None:
        self.sock = socket.create_connection(tuple(server), timeout=2)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server.host)
        self._framer = StreamFramer()

    @property
    def address(self) -> TransportAddress:
        return TransportAddress(*self.sock.getsockname()[:2])

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                await self.deliver(self.ciphertext())
                return

    async def _exchange(self) -> None:
        await self.deliver(self.ciphertext())
        self._incoming.write(await self._receive())

    async def _receive(self) -> bytes:
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 1 << 16), 5)
        if not data:
            raise EOFError("the relay closed the connection")
        return data

    def encrypt(self, *records: bytes) -> bytes:
        for data in records:
            self.tls.write(data)
        return self.ciphertext()

    def ciphertext(self) -> bytes:
        return self._outgoing.read()

    async def deliver(self, data: bytes) -> None:
        """As it is, in one write."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def send(self, data: bytes, _to: TransportAddress) -> None:
        self.sock.sendall(self.encrypt(data))

    async def read(self) -> bytes:
        """What the relay wrote; b"" at its close_notify, EOFError without one, SSLError for an alert."""
        while True:
            try:
                return self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self._incoming.write(await self._receive())
            except ssl.SSLZeroReturnError:
                return b""

    def say_goodbye(self) -> bytes:
        """The close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.ciphertext()

    async def frames(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            found += self._framer.feed(await self.read())
        return found

    def heard(self) -> list[bytes]:
        raise NotImplementedError("it is asked for frames()")
