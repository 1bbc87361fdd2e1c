"""StunClient: asks several servers at once, and the fastest good answer wins."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal
from weakref import WeakKeyDictionary

from stunwire import StunUri, TransportAddress

from peerpath.errors import PeerpathError, ServerError, ServerFailure, TraversalError
from peerpath.net.addresses import join_host_port
from peerpath.net.interfaces import source_towards
from peerpath.net.racing import AllFailed, first_success
from peerpath.net.resolving import Resolver
from peerpath.stun.binding import BindingAnswer, BindingFailure, BindingOptions
from peerpath.stun.servers import StunServer
from peerpath.stun.sockets import BindingFailed, StunSocket, ask_over_stream

Selection = Literal["fastest", "ordered", "random"]
ServerLike = str | tuple[str, int] | StunUri | StunServer

ADDRESS_STAGGER = 0.05
"""Seconds between the addresses of one server: both families get a chance without waiting for each other."""
ORDERED_STAGGER = 0.3
"""Seconds that an earlier server is ahead of a later one where order counts, backup servers included."""

_MAX_REDIRECTS = 2


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """This machine as the internet sees it."""

    mapped: TransportAddress
    local: TransportAddress
    """Where the request left from; its host is the one that the routing table chose."""
    server: StunServer
    server_address: TransportAddress
    seen_at: float
    """Seconds of the event loop's clock."""
    round_trip: float | None
    other: TransportAddress | None = None
    """The server's second address, if it has one (RFC 5780)."""


class StunClient:
    """Finds the public address. One client may be used many times, and at the same time.

    `selection` says how the primary servers are used: "fastest" asks all at once, "ordered" gives each a head
    start over the next, "random" does so in a drawn order. Backup servers are asked when all primary ones
    have failed, or have let `ORDERED_STAGGER` seconds pass. A dead server costs nothing.
    """

    def __init__(
        self,
        servers: Sequence[ServerLike],
        backup: Sequence[ServerLike] = (),
        *,
        selection: Selection = "fastest",
        timeout: float = 5.0,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
        options: BindingOptions | None = None,
    ) -> None:
        """ValueError for a server that cannot be parsed, or when there is none."""
        self.servers = [StunServer.parse(server) for server in servers]
        self.backup = [StunServer.parse(server) for server in backup]
        if not self.servers and not self.backup:
            raise ValueError("name at least one STUN server")
        self.timeout = timeout
        self._selection = selection
        self._tls = tls
        self._resolver = resolver or Resolver()
        self._options = options
        self._seen_by_port: dict[int, PublicAddress] = {}
        self._seen_by_socket: WeakKeyDictionary[StunSocket, PublicAddress] = WeakKeyDictionary()

    async def public_address(self, local_port: int = 0, *, max_age: float = 0.0) -> PublicAddress:
        """The public address of UDP port `local_port` of this machine, 0 for any (or of a TCP connection).

        What was seen of that port within `max_age` seconds is said again without asking. TraversalError with
        the reason of every server when none answers within the timeout.
        """
        known = self._seen_by_port.get(local_port)
        if known is not None and _age(known) <= max_age:
            return known
        sockets = _Sockets(local_port)
        try:
            found = await self._race(sockets)
        finally:
            sockets.close()
        if local_port:
            self._seen_by_port[local_port] = found
        return found

    async def public_address_of(self, socket: StunSocket, *, max_age: float = 0.0) -> PublicAddress:
        """The same for a socket that exists and goes on to live."""
        known = self._seen_by_socket.get(socket)
        if known is not None and _age(known) <= max_age:
            return known
        found = self._seen_by_socket[socket] = await self._race(_Sockets(socket=socket))
        return found

    async def _race(self, sockets: _Sockets) -> PublicAddress:
        started = asyncio.get_running_loop().time()
        failures: dict[str, ServerFailure] = {}

        async def attempt(server: StunServer) -> PublicAddress:
            name = str(server)

            def tell(reason: str) -> None:
                # What stands in the report if time runs out now.
                failures[name] = ServerFailure(name, f"{reason} within {self.timeout:g} s", self.timeout)

            try:
                tell("its name was not resolved")
                addresses = await server.addresses(self._resolver)
                tell("no answer")
                attempts = [partial(self._ask, server, address, sockets) for address in addresses]
                return await first_success(attempts, stagger=ADDRESS_STAGGER)
            except (PeerpathError, OSError) as error:
                elapsed = asyncio.get_running_loop().time() - started
                failures[name] = ServerFailure(name, _reason(error), elapsed)
                raise

        stagger = 0.0 if self._selection == "fastest" else ORDERED_STAGGER
        waves = []
        for servers in (self._in_order(self.servers), self.backup):
            if servers:
                attempts = [partial(attempt, server) for server in servers]
                waves.append(partial(first_success, attempts, stagger=stagger))
        try:
            async with asyncio.timeout(self.timeout):
                return await first_success(waves, stagger=ORDERED_STAGGER)
        except (TimeoutError, AllFailed):
            pass
        raise TraversalError("No STUN server told the public address:", list(failures.values()))

    def _in_order(self, servers: list[StunServer]) -> list[StunServer]:
        return random.sample(servers, len(servers)) if self._selection == "random" else servers

    async def _ask(self, server: StunServer, address: TransportAddress, sockets: _Sockets) -> PublicAddress:
        for _ in range(_MAX_REDIRECTS + 1):
            source = source_towards(address)
            if source is None:
                raise ServerError(join_host_port(address), "no route")
            if server.transport == "udp":
                socket = await sockets.for_host(address.host)
                result = await socket.ask(address, self._options)
                port = socket.local.port
            else:
                result, local = await ask_over_stream(
                    address, tls=self._context(server), server_name=server.host, options=self._options
                )
                port = local.port
            if isinstance(result, BindingAnswer):
                local = TransportAddress(source, port)
                return PublicAddress(
                    result.mapped,
                    local,
                    server,
                    address,
                    result.seen_at,
                    result.round_trip,
                    result.other,
                )
            if result.alternate is None:
                raise BindingFailed(join_host_port(address), result)
            address = result.alternate
        raise BindingFailed(
            join_host_port(address), BindingFailure("sends clients from server to server", 300)
        )

    def _context(self, server: StunServer) -> ssl.SSLContext | None:
        if server.transport != "tls":
            return None
        return self._tls or ssl.create_default_context()


class _Sockets:
    """One UDP socket a family, opened when first needed; or the one that the caller has."""

    def __init__(self, local_port: int = 0, *, socket: StunSocket | None = None) -> None:
        self._port = local_port
        self._given = socket
        self._made: dict[bool, asyncio.Task[StunSocket]] = {}

    async def for_host(self, host: str) -> StunSocket:
        if self._given is not None:
            if (":" in self._given.local.host) != (":" in host):
                raise ServerError(host, "is of another address family than the socket")
            return self._given
        six = ":" in host
        if six not in self._made:
            self._made[six] = asyncio.ensure_future(StunSocket.open(("::" if six else "0.0.0.0", self._port)))
        return await asyncio.shield(self._made[six])

    def close(self) -> None:
        for task in self._made.values():
            task.add_done_callback(_close)


def _age(seen: PublicAddress) -> float:
    return asyncio.get_running_loop().time() - seen.seen_at


def _close(task: asyncio.Task[StunSocket]) -> None:
    with suppress(OSError, asyncio.CancelledError):
        task.result().close()


def _reason(error: Exception) -> str:
    """What to tell of one server; of several addresses, each."""
    if isinstance(error, AllFailed):
        return "; ".join(dict.fromkeys(_reason(failure) for failure in error.failures))
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
