"""Calling and being called through a relay's rendezvous: all a caller needs is the other's public key."""

import asyncio

import arguments
from peerpath import Contacts, Identity, Traversal
from peerpath.signaling import Rendezvous


async def be_called(given, identity: Identity, caller: Identity, ready: asyncio.Event) -> None:
    nat = Traversal(
        identity,
        given.server,
        username=given.user,
        password=given.password,
        authorize=Contacts([caller.public_key]),
    )
    async with nat, Rendezvous(given.rendezvous, identity) as rendezvous, nat.listen(rendezvous) as calls:
        ready.set()
        connection = await calls.accept()
        print(f"called by {connection.peer}")
        async for message in connection:
            await connection.send(message.upper())


async def main() -> None:
    given = arguments.parse(__doc__)
    me, friend = Identity.generate(), Identity.generate()
    ready = asyncio.Event()
    called = asyncio.create_task(be_called(given, friend, me, ready))
    await ready.wait()

    nat = Traversal(me, given.server, username=given.user, password=given.password)
    async with (
        nat,
        Rendezvous(given.rendezvous, me) as rendezvous,
        nat.connect(friend.public_key, rendezvous) as connection,
    ):
        await connection.send(b"hello")
        print((await connection.recv()).decode())
    await called


asyncio.run(main())
