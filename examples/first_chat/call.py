"""Who calls: dials a key, says what it was given to say, and prints the answers."""

import argparse
import asyncio
import sys

from access import Access
from aiohttp import ClientError
from peerpath import (
    CallError,
    CallRefused,
    ConnectionClosed,
    Identity,
    OutcomeReporter,
    PeerpathError,
    Traversal,
)
from peerpath.signaling import PeerAbsent


async def main(given: argparse.Namespace) -> str | None:
    """What went wrong, if anything did."""
    identity = Identity.load(given.identity)
    access = await Access.ask(given.server, given.login)
    nat = Traversal(
        identity,
        access.uris,
        username=access.username,
        password=access.password,
        outcomes=OutcomeReporter(f"{access.relay}/v1/outcomes", access.outcome_token),
    )
    async with nat, nat.rendezvous(access.relay) as rendezvous:
        renewing = asyncio.create_task(access.keep_fresh(nat))
        try:
            async with nat.connect(given.key, rendezvous, timeout=20) as connection:
                print(f"connected by {connection.path.kind}", flush=True)
                for text in given.messages:
                    await connection.send(text.encode())
                    print((await connection.recv()).decode(), flush=True)
        except CallRefused as refusal:
            return f"they do not take the call: {refusal.reason}"
        except CallError as error:
            if isinstance(error.__cause__, PeerAbsent):
                return "they are not there: call again later, or wake them by a push message"
            print(error.details, file=sys.stderr)
            return f"no connection: {error.reason}"
        except ConnectionClosed as closed:
            return f"the connection has ended: {closed.reason}"
        finally:
            renewing.cancel()
    return None


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--server", required=True, metavar="URL", help="of the application")
parser.add_argument("--login", required=True)
parser.add_argument("--identity", required=True, metavar="FILE")
parser.add_argument("key", metavar="KEY", help="whom to call")
parser.add_argument("messages", nargs="+", metavar="MESSAGE")
try:
    sys.exit(asyncio.run(main(parser.parse_args())))
except KeyboardInterrupt:
    pass
except (PeerpathError, ClientError, TimeoutError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
