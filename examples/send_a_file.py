"""A stream beside the messages: as many bytes as one likes, and a slow reader slows the writer down."""

import asyncio
import hashlib
import os

import arguments
from peerpath import Contacts, Identity, Traversal
from peerpath.signaling import memory_pair

SIZE = 3_000_000


async def receive(nat: Traversal, channel) -> str:
    connection = await nat.accept(channel)
    stream = await connection.accept_stream()
    digest = hashlib.sha256()
    while chunk := await stream.read(65536):
        digest.update(chunk)
    stream.write_eof()
    await connection.wait_closed()
    return digest.hexdigest()


async def main() -> None:
    given = arguments.parse(__doc__)
    credentials = {"username": given.user, "password": given.password}
    sender, receiver = Identity.generate(), Identity.generate()
    there, back = memory_pair()
    content = os.urandom(SIZE)

    async with (
        Traversal(sender, given.server, **credentials) as nat,
        Traversal(receiver, given.server, authorize=Contacts([sender.public_key]), **credentials) as other,
    ):
        receiving = asyncio.create_task(receive(other, back))
        async with nat.connect(receiver.public_key, there) as connection:
            stream = await connection.open_stream()
            for begin in range(0, SIZE, 65536):
                await stream.write(content[begin : begin + 65536])  # waits while the reader is behind
            stream.write_eof()
            await stream.read(1)  # the receiver has everything
        arrived = await receiving == hashlib.sha256(content).hexdigest()
        print(f"{SIZE} bytes, {'all of them right' if arrived else 'damaged'}")


asyncio.run(main())
