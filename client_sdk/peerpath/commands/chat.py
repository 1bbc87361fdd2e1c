"""`peerpath chat`: two terminals, one connection. Lines are messages, `/send FILE` sends a file."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from peerpath.calls import Contacts, Decision, Listener, Traversal
from peerpath.commands import calling, console
from peerpath.commands.calling import Calling
from peerpath.commands.discover import Config
from peerpath.commands.files import receive_file, send_file
from peerpath.commands.lines import Lines
from peerpath.connection import Connection, ConnectionClosed, PathEvent
from peerpath.connection import Path as ConnectionPath
from peerpath.errors import PeerpathError
from peerpath.identity import PublicKey
from peerpath.signaling import Rendezvous

_HELP = "/send FILE  /path  /stats  /report  /fingerprint  /quit; everything else is a message"


def chat(
    identity: calling.IdentityFile,
    rendezvous: calling.RendezvousUrl,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Whom to call; without it, wait to be called.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="KEY", help="Who may call without being asked for; give it again for more."
        ),
    ] = None,
    server: calling.Servers = None,
    user: calling.User = "",
    password: calling.Password = "",
    downloads: Annotated[
        Path, typer.Option("--downloads", metavar="DIR", help="Where received files go.")
    ] = Path(),
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to connect in.")] = 20.0,
    relay_only: calling.RelayOnly = False,
    tcp_relay: calling.TcpRelay = False,
    audit: calling.AuditLogFile = None,
    ca_file: calling.CaFile = None,
    config: Config = None,
) -> None:
    """Talk with one peer: messages and files, encrypted, by the best path there is."""
    try:
        peer = None if key is None else PublicKey.parse(key)
        known = [PublicKey.parse(each) for each in allow or []]
    except ValueError as error:
        raise console.fail(str(error), console.MISUSED) from error
    options = Calling(
        identity, server or [], user, password, rendezvous, ca_file, relay_only, audit, config, tcp_relay
    )
    console.run(_Chat(options, peer, known, downloads, timeout).run())


class _Chat:
    def __init__(
        self,
        options: Calling,
        peer: PublicKey | None,
        known: list[PublicKey],
        downloads: Path,
        timeout: float,
    ) -> None:
        self._options = options
        self._peer = peer
        self._contacts = Contacts(known)
        self._downloads = downloads
        self._timeout = timeout
        self._lines = Lines()
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with self._options.begin(self._authorize) as (nat, rendezvous), self._lines:
            _say(f"You are {nat.identity.public_key}", "dim")
            connection = await self._meet(nat, rendezvous)
            if connection is None:
                return
            _say(f"Connected with {connection.peer}, {_spoken(connection.path)}", "green")
            _say(f"Fingerprint: {connection.peer.fingerprint}", "dim")
            _say(_HELP, "dim")
            await self._talk(connection)

    async def _meet(self, nat: Traversal, rendezvous: Rendezvous) -> Connection | None:
        if self._peer is not None:
            _say("Calling ...", "dim")
            return await nat.connect(self._peer, rendezvous, timeout=self._timeout)
        _say("Waiting for a call ...", "dim")
        async with nat.listen(rendezvous) as calls:
            return await self._first(calls)

    async def _first(self, calls: Listener) -> Connection | None:
        """The first call that comes in; None if the person wants to end before."""
        accepting = asyncio.ensure_future(calls.accept())
        while True:
            reading = asyncio.ensure_future(self._lines.get())
            await asyncio.wait([accepting, reading], return_when=asyncio.FIRST_COMPLETED)
            if accepting.done():
                if reading.done() and (line := reading.result()) is not None:
                    self._lines.put_back(line)
                reading.cancel()
                return accepting.result()
            line = reading.result()
            if line is None or line.strip() == "/quit":
                accepting.cancel()
                return None

    async def _authorize(self, peer: PublicKey) -> Decision:
        """Known keys come in; for others the person is asked, if there is one."""
        if self._contacts(peer) is Decision.FULL:
            return Decision.FULL
        if not sys.stdin.isatty():
            _say(f"{peer} is not among those that --allow names: refused", "yellow")
            return Decision.REFUSE
        _say(f"{peer} calls. Fingerprint: {peer.fingerprint}", "yellow")
        if not await self._lines.ask("Take the call? [y/N] "):
            return Decision.REFUSE
        self._contacts.set(peer, Decision.FULL)
        return Decision.FULL

    # -- talking ----------------------------------------------------------------------------------------

    async def _talk(self, connection: Connection) -> None:
        """Until one side ends it."""
        helpers = [
            asyncio.create_task(calling.tell_paths(connection, _tell_path)),
            asyncio.create_task(self._receive_files(connection)),
        ]
        reading = asyncio.create_task(self._show(connection))
        writing = asyncio.create_task(self._write(connection))
        try:
            await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [*helpers, reading, writing, *self._sending]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close("the chat was left")

    async def _show(self, connection: Connection) -> None:
        try:
            async for message in connection:
                for line in message.decode(errors="replace").splitlines() or [""]:
                    _say(f"< {console.plain(line)}", "cyan")
        except ConnectionClosed as error:
            _say(console.plain(str(error)), "red")
        else:
            reason = console.plain(connection.close_reason or "no reason given")
            _say(f"The peer has ended the chat: {reason}", "dim")

    async def _write(self, connection: Connection) -> None:
        while (line := await self._lines.get()) is not None:
            if line.strip() == "/quit":
                return
            try:
                await self._do(connection, line)
            except ConnectionClosed:
                raise
            except PeerpathError as error:
                _say(str(error), "red")
        await asyncio.gather(*self._sending)
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.flush(), 10)

    async def _do(self, connection: Connection, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        if command == "/send":
            # Beside the talk: a large file takes its time.
            sending = asyncio.create_task(self._send_file(connection, rest))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        elif command == "/path":
            _say(_spoken(connection.path), "dim")
        elif command == "/stats":
            _say(str(connection.stats()), "dim")
        elif command == "/report":
            _say(str(connection.report), "dim")
        elif command == "/fingerprint":
            _say(connection.peer.fingerprint, "dim")
        elif command == "/help":
            _say(_HELP, "dim")
        elif line.strip():
            await connection.send(line.encode())

    async def _send_file(self, connection: Connection, name: str) -> None:
        try:
            await send_file(connection, await asyncio.to_thread(_path, name))
        except (PeerpathError, OSError, RuntimeError) as error:
            _say(f"Not sent: {error}", "red")

    async def _receive_files(self, connection: Connection) -> None:
        while True:
            stream = await connection.accept_stream()
            try:
                file = await receive_file(stream, self._downloads)
                _say(f"Received {file}", "green")
            except (PeerpathError, OSError, ValueError) as error:
                _say(f"A file did not arrive: {error}", "red")


def _path(text: str) -> Path:
    return Path(text.strip()).expanduser()


def _tell_path(event: PathEvent) -> None:
    reason = f" ({console.plain(event.reason)})" if event.reason else ""
    _say(f"Path: {_spoken(event.path)}{reason}", "magenta")


def _spoken(path: ConnectionPath | None) -> str:
    if path is None:
        return "no path at the moment"
    rtt = "" if path.rtt is None else f", {path.rtt * 1000:.0f} ms"
    return f"{path.kind} by {path.transport}{rtt}"


def _say(text: str, style: str) -> None:
    console.output.print(text, style=style, markup=False)
