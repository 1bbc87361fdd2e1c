"""Two identities connect and talk. Both are in this process; signaling is a pair of queues in memory."""

import asyncio

import arguments
from peerpath import Contacts, Identity, Traversal
from peerpath.signaling import memory_pair


async def bob(nat: Traversal, channel) -> None:
    connection = await nat.accept(channel)
    print(f"bob: {connection.peer.fingerprint} is here, by {connection.path.kind}")
    async for message in connection:
        await connection.send(b"you said: " + message)


async def main() -> None:
    given = arguments.parse(__doc__)
    credentials = {"username": given.user, "password": given.password}
    alice_key, bob_key = Identity.generate(), Identity.generate()
    to_bob, to_alice = memory_pair()

    async with (
        Traversal(alice_key, given.server, **credentials) as alice_nat,
        Traversal(
            bob_key, given.server, authorize=Contacts([alice_key.public_key]), **credentials
        ) as bob_nat,
    ):
        answering = asyncio.create_task(bob(bob_nat, to_alice))
        async with alice_nat.connect(bob_key.public_key, to_bob, timeout=15) as connection:
            print(f"alice: connected, {connection.path}")
            for text in ("hello", "how are you?"):
                await connection.send(text.encode())
                print(f"alice: {(await connection.recv()).decode()}")
            connection.send_datagram(b"typing")
        await answering


asyncio.run(main())
