"""The path as it changes underneath: often relayed first, direct a moment later, and nothing gets lost."""

import asyncio

import arguments
from peerpath import Connection, Contacts, Identity, Traversal
from peerpath.signaling import memory_pair


async def watch(connection: Connection) -> None:
    async for event in connection.path_events():
        path = "no path" if event.path is None else f"path: {event.path.kind} by {event.path.transport}"
        print(f"{path}, nothing comes back" if event.is_silent else path)


async def echo(nat: Traversal, channel) -> None:
    connection = await nat.accept(channel)
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    given = arguments.parse(__doc__)
    credentials = {"username": given.user, "password": given.password}
    one, other = Identity.generate(), Identity.generate()
    there, back = memory_pair()
    async with (
        Traversal(one, given.server, **credentials) as nat,
        Traversal(other, given.server, authorize=Contacts([one.public_key]), **credentials) as their_nat,
    ):
        answering = asyncio.create_task(echo(their_nat, back))
        async with nat.connect(other.public_key, there) as connection:
            watching = asyncio.create_task(watch(connection))
            for number in range(100):
                await connection.send(b"%d" % number)
                assert await connection.recv() == b"%d" % number
                await asyncio.sleep(0.01)
            stats = connection.stats()
            print(f"{stats.messages_received} messages, {stats.interruptions} interruptions")
            watching.cancel()
        await answering


asyncio.run(main())
