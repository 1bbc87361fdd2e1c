"""What a failed call tells: every server, candidate and pair, with reason and time."""

import asyncio

import arguments
from peerpath import CallError, Identity, Traversal
from peerpath.signaling import memory_pair


async def main() -> None:
    given = arguments.parse(__doc__)
    me, nobody = Identity.generate(), Identity.generate()
    channel, _ = memory_pair()  # nobody listens at the other end
    async with Traversal(me, given.server, username=given.user, password=given.password) as nat:
        try:
            await nat.connect(nobody.public_key, channel, timeout=2)
        except CallError as error:
            print(error.reason)
            print(error.details)


asyncio.run(main())
