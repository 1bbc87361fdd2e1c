"""ServerLookup: the addresses of the servers that are asked over UDP, for the gatherer as they are found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from peerpath.errors import PeerpathError
from peerpath.ice.configuration import IceServer
from peerpath.ice.outputs import Output
from peerpath.ice.relay_plan import RelayOptions, uses_datagrams
from peerpath.ice.servers import GatheringServer, Inquiry, ServerReport
from peerpath.ice.stack import IceStack
from peerpath.net.resolving import Resolver


class ServerLookup:
    """`known` is set when all of them were looked up, those without an address too."""

    def __init__(
        self,
        stack: IceStack,
        do: Callable[[Sequence[Output]], None],
        servers: Sequence[IceServer],
        relaying: RelayOptions,
        resolver: Resolver,
    ) -> None:
        self.known = asyncio.Event()
        self._stack = stack
        self._do = do
        self._servers = servers
        self._relaying = relaying
        self._resolver = resolver
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Side by side, so that a name that takes its time holds up no other."""
        began = self._loop.time()
        asked = [each for each in enumerate(self._servers) if self._may_be_asked(each[1])]
        await asyncio.gather(*(self._look_up(index, server, began) for index, server in asked))
        self._do(self._stack.no_more_servers(self._loop.time()))
        self.known.set()

    def _may_be_asked(self, server: IceServer) -> bool:
        if not server.over_udp:
            return False
        return uses_datagrams(self._relaying) if server.is_turn else not self._relaying.onion_only

    async def _look_up(self, index: int, server: IceServer, began: float) -> None:
        try:
            addresses = await server.addresses(self._resolver)
        except PeerpathError as error:
            inquiry = Inquiry.ALLOCATION if server.is_turn else Inquiry.BINDING
            report = ServerReport(server.uri, inquiry, "udp", None, began)
            report.failed(str(error), self._loop.time())
            self._stack.gatherer.reports.append(report)
            return
        families = set()
        for address in addresses:
            # One address a family: a server is one server, however many addresses it has.
            if (":" in address.host) not in families:
                families.add(":" in address.host)
                found = GatheringServer(server.uri, address, server.credentials, index)
                self._do(self._stack.add_server(found, self._loop.time()))
