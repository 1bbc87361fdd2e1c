"""What `listen`, `dial` and `chat` share: options, the objects they make, and the events they print."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from peerpath.calls import Authorize, Traversal
from peerpath.calls.audit import AuditFile
from peerpath.commands import console
from peerpath.commands.identity import load
from peerpath.connection import Connection, PathEvent
from peerpath.connection import Path as ConnectionPath
from peerpath.errors import SettingsError
from peerpath.fallbacks import Fallback, with_tcp_relay
from peerpath.signaling import Rendezvous

IdentityFile = Annotated[
    Path, typer.Option("--identity", metavar="FILE", help="The private key: see `peerpath identity new`.")
]
Servers = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="URI", help="stun:, turn: or turns: URI; give it again for more."),
]
User = Annotated[str, typer.Option("--user", help="The user name at the TURN servers.")]
Password = Annotated[
    str,
    typer.Option(
        "--password",
        envvar="PEERPATH_TURN_PASSWORD",
        show_envvar=True,
        help="The password at the TURN servers.",
    ),
]
RendezvousUrl = Annotated[
    str, typer.Option("--rendezvous", metavar="URL", help="Where both sides meet: wss://relay/v1/rendezvous.")
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", metavar="PEM", help="Certificates to trust for the rendezvous, beside the system's."
    ),
]
RelayOnly = Annotated[
    bool, typer.Option("--relay-only", help="Show the peer no address of this machine, only relayed ones.")
]
TcpRelay = Annotated[
    bool,
    typer.Option(
        "--tcp-relay", help="Ask the TURN servers for addresses that meet the peer over TCP, too (RFC 6062)."
    ),
]
AuditLogFile = Annotated[
    Path | None, typer.Option("--audit", metavar="FILE", help="Append an event of each attempt to this file.")
]
JsonLines = Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")]


@dataclass(frozen=True, slots=True)
class Calling:
    """What the options say."""

    identity: Path
    servers: list[str]
    user: str
    password: str
    rendezvous: str
    ca_file: Path | None = None
    relay_only: bool = False
    audit: Path | None = None
    config: str | None = None
    tcp_relay: bool = False

    @asynccontextmanager
    async def begin(self, authorize: Authorize) -> AsyncIterator[tuple[Traversal, Rendezvous]]:
        """The Traversal, and the rendezvous it calls by."""
        settings = console.settings(self.config)
        if self.tcp_relay and Fallback.TCP_RELAY not in settings.fallbacks:
            settings = settings.model_copy(update={"fallbacks": with_tcp_relay(settings.fallbacks)})
        identity = load(self.identity)
        tls = ssl.create_default_context()
        if self.ca_file is not None:
            try:
                tls.load_verify_locations(self.ca_file)
            except OSError as error:
                raise SettingsError("--ca-file", f"{self.ca_file}: {error.strerror or error}") from error
        traversal = Traversal(
            identity,
            self.servers,
            username=self.user,
            password=self.password,
            settings=settings,
            authorize=authorize,
            privacy="relay_only" if self.relay_only else "full",
            audit=AuditFile(self.audit) if self.audit is not None else None,
        )
        async with traversal as nat, nat.rendezvous(self.rendezvous, tls=tls) as rendezvous:
            yield nat, rendezvous


def emit(event: str, **more: Any) -> None:
    """One JSON line, at once."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def path_json(path: ConnectionPath | None) -> dict[str, Any] | None:
    if path is None:
        return None
    rtt = None if path.rtt is None else round(path.rtt * 1000, 1)
    return {"kind": path.kind, "transport": path.transport, "rtt_ms": rtt}


def path_event_json(event: PathEvent) -> dict[str, Any]:
    return {
        "path": path_json(event.path),
        "reason": event.reason,
        "silent": event.is_silent,
        "at": round(time.time(), 4),
    }


async def tell_paths(connection: Connection, tell: Callable[[PathEvent], None]) -> None:
    """Tells each change of path after the first one, until the connection ends."""
    is_first = True
    async for event in connection.path_events():
        if not is_first:
            tell(event)
        is_first = False


def stop_on_signals() -> asyncio.Event:
    """Set when somebody wants the program to end."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows has KeyboardInterrupt alone
            loop.add_signal_handler(number, stop.set)
    return stop


__all__ = [
    "AuditLogFile",
    "CaFile",
    "Calling",
    "IdentityFile",
    "JsonLines",
    "Password",
    "RelayOnly",
    "RendezvousUrl",
    "Servers",
    "TcpRelay",
    "User",
    "emit",
    "path_event_json",
    "path_json",
    "stop_on_signals",
    "tell_paths",
]
