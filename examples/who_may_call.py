"""A policy for each key: a friend gets everything, an acquaintance no address, a stranger nothing at all."""

import asyncio
from contextlib import suppress

import arguments
from peerpath import AuditEvent, CallError, CallRefused, Contacts, Decision, Identity, Traversal
from peerpath.signaling import memory_pair


def audit(event: AuditEvent) -> None:
    print(f"audit: {event.direction} {event.result} by {event.method} {event.reason}")


async def main() -> None:
    given = arguments.parse(__doc__)
    credentials = {"username": given.user, "password": given.password}
    me, friend, acquaintance, stranger = (Identity.generate() for _ in range(4))
    policy = Contacts([friend.public_key], {acquaintance.public_key: Decision.RELAY_ONLY})

    async with Traversal(me, given.server, authorize=policy, audit=audit, **credentials) as nat:
        for name, identity in (("friend", friend), ("acquaintance", acquaintance), ("stranger", stranger)):
            there, back = memory_pair()
            accepting = asyncio.create_task(nat.accept(back, within=20))
            async with Traversal(identity, given.server, **credentials) as theirs:
                try:
                    async with theirs.connect(me.public_key, there) as connection:
                        print(f"{name}: {connection.path.kind}")
                        await accepting
                except CallRefused as refusal:
                    print(f"{name}: {refusal.reason}")
                except CallError as error:
                    print(f"{name}: no connection: {error.reason}")
            accepting.cancel()
            with suppress(asyncio.CancelledError):
                await accepting


asyncio.run(main())
