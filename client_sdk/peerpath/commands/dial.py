"""`peerpath dial`: one connection, some messages, their echo."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Annotated, Any

import typer

from peerpath.calls import CallError, refuse_everybody
from peerpath.commands import calling, console
from peerpath.commands.calling import Calling
from peerpath.commands.discover import Config
from peerpath.connection import Connection, ConnectionClosed, MessageTooLarge, PathEvent
from peerpath.errors import PeerpathError, SettingsError
from peerpath.identity import PublicKey

_INDEX_BYTES = 8


def dial(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The peer's public key.")],
    identity: calling.IdentityFile,
    rendezvous: calling.RendezvousUrl,
    server: calling.Servers = None,
    user: calling.User = "",
    password: calling.Password = "",
    send: Annotated[int, typer.Option("--send", min=0, help="How many messages to send.")] = 0,
    size: Annotated[int, typer.Option("--size", min=_INDEX_BYTES, help="Bytes of each.")] = 64,
    rate: Annotated[
        float, typer.Option("--rate", min=0, help="Messages a second; 0 is as fast as it goes.")
    ] = 0,
    fill: Annotated[
        str, typer.Option("--fill", help="What the messages are made of; random without it.")
    ] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to connect in.")] = 15.0,
    patience: Annotated[
        float, typer.Option("--patience", min=0.1, help="Seconds that an echo may take.")
    ] = 60.0,
    relay_only: calling.RelayOnly = False,
    tcp_relay: calling.TcpRelay = False,
    audit: calling.AuditLogFile = None,
    ca_file: calling.CaFile = None,
    as_json: calling.JsonLines = False,
    config: Config = None,
) -> None:
    """Dial KEY, send messages and wait for each to come back. Exits 0 only if all of them did, in order."""
    try:
        peer = PublicKey.parse(key)
    except ValueError as error:
        raise console.fail(str(error), console.MISUSED) from error
    options = Calling(
        identity, server or [], user, password, rendezvous, ca_file, relay_only, audit, config, tcp_relay
    )
    work = _Dialing(options, peer, send, size, fill, rate, timeout, patience, as_json)
    if not console.run(work.run()):
        raise typer.Exit(console.FAILED)


class _Dialing:
    def __init__(
        self,
        options: Calling,
        peer: PublicKey,
        count: int,
        size: int,
        fill: str,
        rate: float,
        timeout: float,
        patience: float,
        as_json: bool,
    ) -> None:
        self._options = options
        self._peer = peer
        self._count = count
        self._size = size
        self._pause = 1 / rate if rate else 0.0
        self._timeout = timeout
        self._patience = patience
        self._as_json = as_json
        text = fill.encode()
        self._fill = (text * (size // len(text) + 1))[:size] if text else secrets.token_bytes(size)

    async def run(self) -> bool:
        """Whether everything came back."""
        began = time.monotonic()
        try:
            async with self._options.begin(refuse_everybody) as (nat, rendezvous):
                connection = await nat.connect(self._peer, rendezvous, timeout=self._timeout)
                self._tell(
                    "connected",
                    path=calling.path_json(connection.path),
                    elapsed_ms=round((time.monotonic() - began) * 1000, 1),
                )
                watching = asyncio.create_task(calling.tell_paths(connection, self._tell_path))
                try:
                    return await self._converse(connection)
                finally:
                    watching.cancel()
                    await connection.close("done")
        except CallError as error:
            report = error.details.as_json()
            self._tell("failed", reason=error.reason, report=report, text=str(error.details))
        except SettingsError:
            raise
        except PeerpathError as error:
            self._tell("failed", reason=str(error), report=None)
        return False

    async def _converse(self, connection: Connection) -> bool:
        stop = calling.stop_on_signals()
        work = asyncio.gather(self._send(connection), self._receive(connection))
        stopping = asyncio.ensure_future(stop.wait())
        waiting: list[asyncio.Future[Any]] = [work, stopping]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not work.done():
            work.cancel()
        try:
            await work
        except asyncio.CancelledError:
            reason = "stopped"
        except TimeoutError:
            reason = f"an echo took longer than {self._patience:g} s"
        except (ConnectionClosed, MessageTooLarge, _WrongEcho) as error:
            reason = str(error)
        else:
            stats = connection.stats()
            self._tell("closed", reason="done", messages=self._count, interruptions=stats.interruptions)
            return True
        connection.report.attempts[-1].note(reason, asyncio.get_running_loop().time())
        self._tell("failed", reason=reason, report=connection.report.as_json())
        return False

    async def _send(self, connection: Connection) -> None:
        for index in range(self._count):
            await connection.send(self._message(index))
            if self._pause:
                await asyncio.sleep(self._pause)

    async def _receive(self, connection: Connection) -> None:
        for index in range(self._count):
            echo = await asyncio.wait_for(connection.recv(), self._patience)
            if echo != self._message(index):
                raise _WrongEcho(f"message {index}: the echo is another one")
            self._tell("message", index=index, size=len(echo), at=round(time.time(), 4))

    def _message(self, index: int) -> bytes:
        return index.to_bytes(_INDEX_BYTES, "big") + self._fill[: self._size - _INDEX_BYTES]

    def _tell_path(self, event: PathEvent) -> None:
        self._tell("path", **calling.path_event_json(event))

    def _tell(self, event: str, **more: object) -> None:
        if self._as_json:
            calling.emit(event, **more)
        elif event == "connected":
            console.output.print(
                f"Connected: {_spoken(more['path'])} after {more['elapsed_ms']} ms", markup=False
            )
        elif event == "path":
            console.output.print(f"Path: {_spoken(more['path'])} {more['reason']}", markup=False)
        elif event == "closed":
            console.output.print(f"All {more['messages']} messages came back.", markup=False)
        elif event == "failed":
            for line in str(more.get("text") or more["reason"]).splitlines():
                console.messages.print(console.plain(line), style="red", markup=False)


class _WrongEcho(PeerpathError):
    """What came back is not what was sent."""


def _spoken(path: object) -> str:
    if not isinstance(path, dict):
        return "none"
    rtt = "" if path["rtt_ms"] is None else f", round trip {path['rtt_ms']} ms"
    return f"{path['kind']} ({path['transport']}){rtt}"
