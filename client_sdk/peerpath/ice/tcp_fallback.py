"""TcpFallback: when connections are tried beside UDP, and on which addresses of this machine."""

from __future__ import annotations

import asyncio

from peerpath.ice.host_sockets import HostSockets
from peerpath.ice.port_mappings import PortMappings
from peerpath.ice.priority import local_preferences
from peerpath.ice.stack import IceStack
from peerpath.ice.tcp_candidates import TcpCandidates

_UDP_SECONDS = 1.0
"""How long UDP may be silent before TCP is used as well."""


class TcpFallback:
    """For where one side gets nothing through by UDP."""

    def __init__(
        self,
        stack: IceStack,
        candidates: TcpCandidates,
        sockets: HostSockets,
        mappings: PortMappings | None,
    ) -> None:
        self._stack = stack
        self._candidates = candidates
        self._sockets = sockets
        self._mappings = mappings
        self._hosts: set[str] = set()

    @property
    def has_begun(self) -> bool:
        return bool(self._hosts)

    async def look_out_for_silence(self, servers_known: asyncio.Event) -> None:
        """Where no server answers over UDP, connections may get through."""
        await servers_known.wait()
        await asyncio.sleep(_UDP_SECONDS)
        answers = (report.result for report in self._stack.gatherer.reports if report.transport == "udp")
        if not any(answers):
            await self.begin()

    async def begin(self) -> None:
        """On every address of this machine that has a socket, once."""
        hosts = [host for host in self._sockets.hosts if host not in self._hosts]
        preferences = local_preferences(hosts)
        for host in hosts:
            if host in self._hosts:
                continue  # another call has begun there meanwhile
            self._hosts.add(host)
            taking = await self._candidates.begin(host, preferences[host])
            if self._mappings is not None and taking is not None:
                self._mappings.begin_tcp(taking, preferences[host])

    def hosts_changed(self) -> list[asyncio.Task[None]]:
        """Ends where the address is gone; the tasks that are returned give port mappings back."""
        tasks: list[asyncio.Task[None]] = []
        for host in self._hosts.difference(self._sockets.hosts):
            self._hosts.discard(host)
            self._candidates.end(host)
            if self._mappings is not None:
                tasks += self._mappings.end_tcp(host)
        return tasks
