"""StreamRelays: relayed addresses that are reached over TCP or TLS, for networks that let no UDP out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

from stunwire import TransportAddress

from peerpath.errors import PeerpathError
from peerpath.ice.configuration import IceServer
from peerpath.ice.outputs import Output
from peerpath.ice.relays import needs_channel
from peerpath.ice.servers import ServerReport
from peerpath.ice.stack import IceStack
from peerpath.net.racing import AllFailed, first_success
from peerpath.net.resolving import Resolver
from peerpath.turn import outputs as turn
from peerpath.turn.connection import TurnConnection, allocate

_STAGGER = 0.25
"""Seconds between attempts at the addresses of one server (RFC 8305 section 5)."""


class StreamRelays:
    """Opens the connections, and carries what the agent sends from their relayed addresses."""

    def __init__(
        self,
        stack: IceStack,
        do: Callable[[list[Output]], None],
        *,
        resolver: Resolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._stack = stack
        self._do = do
        self._resolver = resolver
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._connections: dict[TransportAddress, TurnConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, relayed: TransportAddress) -> bool:
        return relayed in self._connections

    def begin(self, server: IceServer, index: int) -> None:
        """Goes for a relayed address of `server`; `index` is its place in the configuration."""
        uri = server.turn
        assert uri is not None
        transport = "tls" if uri.secure else uri.transport
        report = self._stack.gatherer.expect_relay(server.uri, transport, self._loop.time())
        task = self._loop.create_task(self._open(server, index, report))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def send(self, relayed: TransportAddress, peer: TransportAddress, data: bytes) -> None:
        self._connections[relayed].send(peer, data)

    def permit(self, relayed: TransportAddress, peer: TransportAddress) -> None:
        if needs_channel(relayed, peer):
            self.bind(relayed, peer)
        else:
            self._connections[relayed].permit([peer])

    def bind(self, relayed: TransportAddress, peer: TransportAddress) -> None:
        self._connections[relayed].bind(peer)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.close() for connection in connections), return_exceptions=True)

    async def _open(self, server: IceServer, index: int, report: ServerReport) -> None:
        uri, credentials = server.turn, server.credentials
        assert uri is not None
        assert credentials is not None
        try:
            addresses = await server.addresses(self._resolver)
            connection = await first_success(
                [
                    lambda address=address: allocate(uri, address, credentials, tls=self._tls)  # type: ignore[misc]
                    for address in addresses
                ],
                stagger=_STAGGER,
            )
        except (PeerpathError, OSError) as error:
            reason = _words(error)
            self._do(self._stack.settle_relay(report, reason, self._loop.time()))
            return
        client = connection.client
        assert client.mapped is not None
        relayed = client.relayed[0]
        connection.on_output = lambda output: self._received(relayed, output)
        self._connections[relayed] = connection
        now, host = self._loop.time(), connection.address.host
        self._do(self._stack.add_relay(report, relayed, client.mapped, host, index, now))

    def _received(self, relayed: TransportAddress, output: turn.Output) -> None:
        """What a connection has to say, once it has its relayed address."""
        stack, now = self._stack, self._loop.time()
        if isinstance(output, turn.PeerData):
            self._do(stack.receive(output.data, relayed, output.peer, now))
        elif isinstance(output, turn.PermissionRefused):
            answer = "did not answer" if output.code is None else f"answered {output.code}"
            self._do(stack.refuse(relayed, output.host, f"the relay {answer} when asked to permit it", now))
        elif isinstance(output, turn.Ended):
            with suppress(KeyError):
                del self._connections[relayed]
            self._do(stack.remove_relay(relayed, f"the relay is gone: {output.reason.value}", now))


def _words(error: Exception) -> str:
    return str(error) if not isinstance(error, AllFailed) else "; ".join(map(str, error.failures))
