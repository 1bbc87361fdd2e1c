"""Who is called: waits for the keys that it knows, and answers each message."""

import argparse
import asyncio
import sys

from access import Access
from aiohttp import ClientError
from peerpath import Connection, ConnectionClosed, Contacts, Identity, PeerpathError, PublicKey, Traversal


async def talk(connection: Connection) -> None:
    caller = connection.peer.fingerprint
    print(f"{caller} calls, by {connection.path.kind}", flush=True)
    try:
        async for message in connection:
            print(f"they say: {message.decode()}", flush=True)
            await connection.send(b"you said: " + message)
    except ConnectionClosed as closed:
        print(f"{caller} is lost: {closed.reason}", flush=True)
    else:
        print(f"{caller} has hung up", flush=True)


async def main(given: argparse.Namespace) -> None:
    identity = Identity.load(given.identity)
    contacts = Contacts(PublicKey.parse(key) for key in given.callers)
    access = await Access.ask(given.server, given.login)
    nat = Traversal(
        identity, access.uris, username=access.username, password=access.password, authorize=contacts
    )
    async with nat, nat.rendezvous(access.relay) as rendezvous, nat.listen(rendezvous) as calls:
        renewing = asyncio.create_task(access.keep_fresh(nat))
        print("waiting for calls", flush=True)
        talks = set()
        try:
            async for connection in calls:
                talks.add(task := asyncio.create_task(talk(connection)))
                task.add_done_callback(talks.discard)
        finally:
            renewing.cancel()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--server", required=True, metavar="URL", help="of the application")
parser.add_argument("--login", required=True)
parser.add_argument("--identity", required=True, metavar="FILE")
parser.add_argument("callers", nargs="+", metavar="KEY", help="who may call")
try:
    asyncio.run(main(parser.parse_args()))
except KeyboardInterrupt:
    pass
except (PeerpathError, ClientError, TimeoutError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
