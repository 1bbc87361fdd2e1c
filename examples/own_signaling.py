"""Signaling over a connection of one's own: two clients of a chat server that carries bytes between keys."""

import asyncio
from contextlib import suppress

import arguments
from peerpath import Contacts, Identity, PublicKey, Traversal
from peerpath.signaling import Route, SignalingClosed, SignalingError


class ChatServer:
    """Stands for the chat's own. Nothing depends on its honesty: it may lose, repeat and forge messages."""

    def __init__(self) -> None:
        self.clients: dict[PublicKey, ChatSignaling] = {}

    def carry(self, sender: PublicKey, to: PublicKey, message: bytes) -> None:
        if to not in self.clients:
            raise SignalingClosed(f"{to.fingerprint} is not there")
        asyncio.get_running_loop().call_later(0.02, self.clients[to].arrived, sender, message)


class ChatSignaling:
    """One client's connection to it: `connect` takes channels from `channel`, `listen` from `incoming`."""

    def __init__(self, server: ChatServer, own: PublicKey) -> None:
        self.own, self.server = own, server
        self.channels: dict[tuple[PublicKey, bytes], Channel] = {}
        self._incoming: asyncio.Queue[tuple[PublicKey, Channel]] = asyncio.Queue(64)
        server.clients[own] = self

    def channel(self, peer: PublicKey) -> "Channel":
        return Channel(self, peer)

    async def incoming(self):
        while True:
            yield await self._incoming.get()

    def arrived(self, sender: PublicKey, message: bytes) -> None:
        with suppress(SignalingError, asyncio.QueueFull):  # what is nothing of ours, or too much
            route = Route.of(message)
            key = (sender, route.attempt)
            if key not in self.channels and route.is_offer:
                channel = Channel(self, sender)
                self._incoming.put_nowait((sender, channel))
                self.channels[key] = channel
            if key in self.channels:
                self.channels[key].inbox.put_nowait(message)


class Channel:
    """To one peer, for one attempt to connect: what is written for an attempt is answered by the same one."""

    trickle = True  # a message costs nobody any effort, so candidates may follow one by one

    def __init__(self, signaling: ChatSignaling, peer: PublicKey) -> None:
        self._signaling, self._peer = signaling, peer
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue(256)

    async def send(self, message: bytes) -> None:
        """At most MAX_MESSAGE_BYTES, 16 KiB."""
        self._signaling.channels[self._peer, Route.of(message).attempt] = self
        self._signaling.server.carry(self._signaling.own, self._peer, message)

    async def recv(self) -> bytes:
        message = await self.inbox.get()
        if message is None:
            raise SignalingClosed("the attempt is over")
        return message

    def close(self) -> None:
        known = self._signaling.channels
        for key in [key for key, channel in known.items() if channel is self]:
            del known[key]
        with suppress(asyncio.QueueFull):
            self.inbox.put_nowait(None)


async def bob(nat: Traversal, signaling: ChatSignaling) -> None:
    async with nat.listen(signaling) as calls:
        connection = await calls.accept()
        async for message in connection:
            await connection.send(b"bob got: " + message)


async def main() -> None:
    given = arguments.parse(__doc__)
    credentials = {"username": given.user, "password": given.password}
    alice_key, bob_key = Identity.generate(), Identity.generate()
    server = ChatServer()
    # They are there as long as the connections live, which mend themselves through them.
    to_server, to_server_too = (ChatSignaling(server, key.public_key) for key in (alice_key, bob_key))
    contacts = Contacts([alice_key.public_key])
    async with (
        Traversal(alice_key, given.server, **credentials) as alice_nat,
        Traversal(bob_key, given.server, authorize=contacts, **credentials) as bob_nat,
    ):
        answering = asyncio.create_task(bob(bob_nat, to_server_too))
        async with alice_nat.connect(bob_key.public_key, to_server) as connection:
            await connection.send(b"hello by our own server")
            print((await connection.recv()).decode())
        await answering


asyncio.run(main())
