"""The rendezvous on a real HTTP listener, and clients of it that nobody here wrote."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from peerpath.identity import Identity
from stunwire.rendezvous import (
    PATH,
    SUBPROTOCOL,
    Challenge,
    Register,
    Registered,
    decode_from_server,
    registration_transcript,
)
from turnrelay.web.application import HttpServer
from turnrelay.web.client_addresses import ClientAddresses
from turnrelay.web.rendezvous import HostNames, Rendezvous, RendezvousLimits


def limits(**changes) -> RendezvousLimits:
    plenty = {
        "connections_total": 100,
        "connections_per_prefix": 100,
        "messages_per_key_per_second": 1000,
        "messages_per_key_burst": 1000,
        "messages_per_prefix_per_second": 5000,
        "messages_per_prefix_burst": 5000,
    }
    return RendezvousLimits(**(plenty | changes))


class Served:
    """A listening rendezvous."""

    def __init__(self, rendezvous: Rendezvous, server: HttpServer) -> None:
        self.rendezvous = rendezvous
        self.authority = f"127.0.0.1:{server.port}"
        self.url = f"ws://{self.authority}{PATH}"
        self.port = server.port

    def refusals(self) -> dict[str, int]:
        return {reason: count for reason, count in self.rendezvous.counts.refusals().items() if count}

    def messages(self) -> dict[str, int]:
        return {result: count for result, count in self.rendezvous.counts.messages().items() if count}


@asynccontextmanager
async def served(*names: str, trusted=(), port=0, **changes) -> AsyncIterator[Served]:
    rendezvous = Rendezvous(limits(**changes), HostNames(names), ClientAddresses(trusted))
    server = HttpServer([rendezvous])
    await server.open("127.0.0.1", port)
    try:
        yield Served(rendezvous, server)
    finally:
        await server.close()


class Client:
    """aiohttp's client, and this protocol by hand."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, authority: str, identity: Identity) -> None:
        self.socket = socket
        self.authority = authority
        self.identity = identity
        self.key = identity.public_key.raw

    async def receive(self):
        message = await self.socket.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.BINARY, (message, self.socket.close_code)
        return decode_from_server(message.data)

    async def send(self, frame) -> None:
        await self.socket.send_bytes(frame.encode())

    async def closed(self) -> int:
        """The code with which the server ends it; what comes before does not matter."""
        while (message := await self.socket.receive(timeout=20)).type is aiohttp.WSMsgType.BINARY:
            pass
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)
        return self.socket.close_code

    async def challenge(self) -> bytes:
        frame = await self.receive()
        assert isinstance(frame, Challenge)
        return frame.nonce

    async def register(self) -> None:
        nonce = await self.challenge()
        await self.send(self.answer(nonce))
        assert isinstance(await self.receive(), Registered)

    def answer(self, nonce: bytes) -> Register:
        return Register(self.key, self.identity.sign(registration_transcript(nonce, self.authority)))


@asynccontextmanager
async def connected(server: Served, identity: Identity | None = None, **options) -> AsyncIterator[Client]:
    """A client before its registration."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url, **({"protocols": (SUBPROTOCOL,)} | options)) as socket,
    ):
        yield Client(socket, server.authority, identity or Identity.generate())


@asynccontextmanager
async def registered(server: Served, identity: Identity | None = None, **options) -> AsyncIterator[Client]:
    async with connected(server, identity, **options) as client:
        await client.register()
        yield client
