"""Signaling by hand: the caller's blob of text goes to the other person, and theirs comes back. No server.

Here a pair of queues stands for the e-mail or the piece of paper that carries the text.
"""

import asyncio

import arguments
from peerpath import Contacts, Identity, Traversal
from peerpath.signaling import ManualSignaling


async def main() -> None:
    given = arguments.parse(__doc__)
    credentials = {"username": given.user, "password": given.password}
    alice, bob = Identity.generate(), Identity.generate()
    to_bob: asyncio.Queue[str] = asyncio.Queue()
    to_alice: asyncio.Queue[str] = asyncio.Queue()

    def show(queue: asyncio.Queue[str], whose: str):
        async def write(blob: str) -> None:
            print(f"{whose} copies this:\n{blob}\n")
            await queue.put(blob)

        return write

    async def answer(nat: Traversal) -> None:
        connection = await nat.accept(ManualSignaling(write=show(to_alice, "bob"), read=to_bob.get))
        async for message in connection:
            print(f"bob got: {message.decode()}")

    async with (
        Traversal(alice, given.server, **credentials) as alice_nat,
        Traversal(bob, given.server, authorize=Contacts([alice.public_key]), **credentials) as bob_nat,
    ):
        answering = asyncio.create_task(answer(bob_nat))
        signaling = ManualSignaling(write=show(to_bob, "alice"), read=to_alice.get)
        # People take their time: a minute at least, in earnest.
        async with alice_nat.connect(bob.public_key, signaling, timeout=60) as connection:
            await connection.send(b"hello by copy and paste")
        await answering


asyncio.run(main())
