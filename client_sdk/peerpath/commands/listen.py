"""`peerpath listen`: takes calls, prints or echoes what comes."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from peerpath.calls import Contacts, Decision, Listener
from peerpath.commands import calling, console
from peerpath.commands.calling import Calling
from peerpath.commands.discover import Config
from peerpath.connection import Connection, ConnectionClosed, PathEvent
from peerpath.identity import PublicKey


def listen(
    identity: calling.IdentityFile,
    rendezvous: calling.RendezvousUrl,
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="KEY|any", help="Who may call; give it again for more.")
    ],
    server: calling.Servers = None,
    user: calling.User = "",
    password: calling.Password = "",
    echo: Annotated[bool, typer.Option("--echo", help="Send every message back.")] = False,
    slow: Annotated[float, typer.Option("--slow", min=0, help="Seconds to take for each message.")] = 0.0,
    relay_only: calling.RelayOnly = False,
    tcp_relay: calling.TcpRelay = False,
    audit: calling.AuditLogFile = None,
    ca_file: calling.CaFile = None,
    as_json: calling.JsonLines = False,
    config: Config = None,
) -> None:
    """Take calls until SIGINT or SIGTERM. Who is not allowed gets a refusal and learns no address."""
    try:
        keys = [PublicKey.parse(key) for key in allow if key != "any"]
    except ValueError as error:
        raise console.fail(f"--allow {error}", console.MISUSED) from error
    contacts = Contacts(keys, others=Decision.FULL if "any" in allow else Decision.REFUSE)
    options = Calling(
        identity, server or [], user, password, rendezvous, ca_file, relay_only, audit, config, tcp_relay
    )
    console.run(_Listening(options, contacts, echo, slow, as_json).run())


class _Listening:
    def __init__(self, options: Calling, contacts: Contacts, echo: bool, slow: float, as_json: bool) -> None:
        self._options = options
        self._contacts = contacts
        self._echo = echo
        self._slow = slow
        self._as_json = as_json
        self._talking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        stop = calling.stop_on_signals()
        async with self._options.begin(self._contacts) as (nat, rendezvous), nat.listen(rendezvous) as calls:
            self._tell("listening", key=str(nat.identity.public_key))
            taking = asyncio.ensure_future(self._take(calls))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait([taking, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in (taking, stopping, *self._talking):
                task.cancel()
            await asyncio.gather(taking, stopping, *self._talking, return_exceptions=True)

    async def _take(self, calls: Listener) -> None:
        async for connection in calls:
            task = asyncio.create_task(self._talk(connection))
            self._talking.add(task)
            task.add_done_callback(self._talking.discard)

    async def _talk(self, connection: Connection) -> None:
        peer = str(connection.peer)
        self._tell("connected", peer=peer, path=calling.path_json(connection.path))

        def tell_path(event: PathEvent) -> None:
            self._tell("path", peer=peer, **calling.path_event_json(event))

        watching = asyncio.create_task(calling.tell_paths(connection, tell_path))
        try:
            async for message in connection:
                self._tell("message", peer=peer, size=len(message))
                if self._slow:
                    await asyncio.sleep(self._slow)
                if self._echo:
                    await connection.send(message)
        except ConnectionClosed as error:
            self._tell("closed", peer=peer, reason=str(error))
        else:
            self._tell("closed", peer=peer, reason=connection.close_reason)
        finally:
            watching.cancel()
            await connection.close()

    def _tell(self, event: str, **more: object) -> None:
        if self._as_json:
            calling.emit(event, **more)
        elif event == "listening":
            console.output.print(f"Listening as {more['key']}", markup=False)
        elif event == "connected":
            console.output.print(f"{more['peer']} has connected", markup=False)
        elif event == "closed":
            reason = console.plain(str(more["reason"]))
            console.output.print(f"{more['peer']} has gone: {reason}", markup=False)
