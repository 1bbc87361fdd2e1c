"""`peerpath listen` and `peerpath dial` as real processes on the hosts of the lab, and what they print."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peerpath.identity import Identity
from support.processes import Process
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab.lab import Host, Lab, Site

PEERPATH = Path(sys.executable).with_name("peerpath")
HTTP_PORT = 9641

Event = dict[str, Any]


def uris_of(*servers: TurnRelayServer) -> list[str]:
    """A STUN URI of each, and TURN URIs for UDP and TCP."""
    found = []
    for server in servers:
        address = server.site.address
        turn = f"turn:{address}:{server.port}?transport="
        found += [f"stun:{address}:{server.port}", f"{turn}udp", f"{turn}tcp"]
    return found


def rendezvous_of(server: TurnRelayServer) -> str:
    return f"ws://{server.site.address}:{HTTP_PORT}/v1/rendezvous"


def start_relay(
    lab: Lab,
    folder: Path,
    name: str = "server",
    *,
    two_addresses: bool = False,
    both_families: bool = False,
    flags: Sequence[str] = (),
) -> TurnRelayServer:
    """A relay with a rendezvous at the lab's internet; enter it to start it.

    With `two_addresses` it tells how NATs map and filter (RFC 5780); with `both_families` it relays IPv6.
    """
    server = lab.server(name)
    more = ["--alternate-ip", server.alternate_address] if two_addresses else []
    addresses = [server.address, server.address6] if both_families else [server.address]
    site = RelaySite.prepare(folder / name, *addresses, namespace=server.namespace)
    return TurnRelayServer(site, Access(), flags=[*flags, *more])


def keep_ipv4_to_itself(site: Site) -> None:
    """The host's IPv4 address becomes a link-local one: for signaling alone, and no candidate."""
    site.router.run(["ip", "address", "add", "169.254.77.1/24", "dev", "lan"])
    site.host.run(["ip", "-4", "address", "flush", "dev", "eth0"])
    site.host.run(["ip", "address", "add", "169.254.77.2/24", "dev", "eth0"])
    site.host.run(["ip", "route", "add", "default", "via", "169.254.77.1"])


_numbers = itertools.count()


@dataclass
class Person:
    """Somebody with a key, on a host."""

    host: Host
    folder: Path
    servers: Sequence[str]
    rendezvous: str
    access: Access = field(default_factory=Access)

    def __post_init__(self) -> None:
        self.identity = self.folder / f"identity-{next(_numbers)}.key"
        identity = Identity.generate()
        identity.save(self.identity)
        self.key = str(identity.public_key)

    def listen(self, *allow: str, echo: bool = True, more: Sequence[str] = ()) -> Caller:
        """Takes calls of those keys; returns once it is registered."""
        flags = [part for key in allow for part in ("--allow", key)]
        caller = self._start("listen", *flags, *(["--echo"] if echo else []), *more)
        caller.wait_for("listening", 60)
        return caller

    def dial(
        self, key: str, *, send: int = 0, size: int = 64, timeout: float = 30, more: Sequence[str] = ()
    ) -> Caller:
        numbers = ["--send", str(send), "--size", str(size), "--timeout", str(timeout)]
        return self._start("dial", key, *numbers, *more)

    def _start(self, command: str, *arguments: str) -> Caller:
        servers = [part for uri in self.servers for part in ("--server", uri)]
        argv = [PEERPATH, command, *arguments, "--identity", self.identity, *servers]
        argv += ["--user", self.access.username, "--password", self.access.password]
        return Caller(self.host.popen([*argv, "--rendezvous", self.rendezvous, "--json"]))


class Caller:
    """A running `peerpath listen` or `peerpath dial`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def events(self) -> list[Event]:
        """What it has printed so far."""
        lines = self.process.output().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]

    def wait_for(self, kind: str, timeout: float = 20, count: int = 1) -> Event:
        """The `count`th event of that kind."""

        def is_there() -> bool:
            return len(self.of(kind)) >= count

        self.process.wait_until(is_there, timeout)
        return self.of(kind)[count - 1]

    def finish(self, timeout: float) -> list[Event]:
        """Waits for success; everything that it printed."""
        self.process.wait(timeout)
        return self.events

    def fail(self, timeout: float) -> Event:
        """Waits for its end, which must be a failure; the event that says why."""
        self.process.wait_until(lambda: bool(self.of("failed")), timeout)
        return self.of("failed")[-1]

    def stop(self) -> None:
        self.process.stop()
