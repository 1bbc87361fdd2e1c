"""Elsewhere: the relayed addresses that the other process of a hand-over has, while both of them live.

What cannot be moved stays with the predecessor (see predecessor.py), and its clients' peers may be clients of
the successor.
"""

import asyncio
import json
import socket
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress

from stunwire import TransportAddress

from turnrelay.core.addresses import RelayedAddress
from turnrelay.core.protocols import Processes

_SECONDS = 0.5
_LINE = 1 << 20


class Elsewhere:
    """`relay.plane.Neighbours`. Each side tells the other, within a second, what has ended."""

    def __init__(self, addresses: Mapping[RelayedAddress, tuple[str, int]]) -> None:
        """By relayed address, where it is on this machine."""
        self._addresses = dict(addresses)
        self._advertised = {local: relay.host for relay, local in self._addresses.items()}

    def __len__(self) -> int:
        return len(self._addresses)

    def reach(self, relay: RelayedAddress, *, tcp: bool = False) -> tuple[str, int] | None:
        return None if tcp else self._addresses.get(relay)

    def seen_from(self, host: str, port: int, *, tcp: bool = False) -> str | None:
        return None if tcp else self._advertised.get((host, port))

    def ended(self, relays: Iterable[RelayedAddress]) -> None:
        for relay in relays:
            local = self._addresses.pop(relay, None)
            if local is not None:
                del self._advertised[local]

    def clear(self) -> None:
        self._addresses.clear()
        self._advertised.clear()

    async def follow(
        self,
        sock: socket.socket,
        own: Iterable[RelayedAddress],
        live: Callable[[], Container[RelayedAddress]],
    ) -> None:
        """Until the other process is gone. `own` are those that it knows of this one."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LINE)
        telling = asyncio.create_task(_tell(writer, set(own), live))
        try:
            with suppress(OSError, ValueError):
                while line := await reader.readline():
                    self.ended(RelayedAddress(TransportAddress(*ended)) for ended in json.loads(line))
        finally:
            telling.cancel()
            writer.close()
            self.clear()


async def until_gone(sock: socket.socket) -> None:
    """Until whoever has the other end, who says nothing more, is gone."""
    sock.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    with suppress(OSError):
        await reader.read()
    writer.close()


class AlsoElsewhere:
    """The processes of the relay, and beside them the other one of a hand-over: what is relayed there is a
    fair peer (`core.protocols.Processes`)."""

    def __init__(self, processes: Processes, elsewhere: Elsewhere) -> None:
        self._processes = processes
        self._elsewhere = elsewhere
        self.member = processes.member

    def has_other(self, member: int) -> bool:
        return self._processes.has_other(member)

    def other_has(self, relay: RelayedAddress, *, tcp: bool) -> bool:
        if self._elsewhere.reach(relay, tcp=tcp) is not None:
            return True
        return self._processes.other_has(relay, tcp=tcp)


async def _tell(
    writer: asyncio.StreamWriter, own: set[RelayedAddress], live: Callable[[], Container[RelayedAddress]]
) -> None:
    while True:
        await asyncio.sleep(_SECONDS)
        still = live()
        ended = [relay for relay in own if relay not in still]
        if ended:
            own.difference_update(ended)
            writer.write(json.dumps(ended).encode() + b"\n")
