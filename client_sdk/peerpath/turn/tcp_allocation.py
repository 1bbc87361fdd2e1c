"""TcpAllocation: a relayed address that meets its peers over TCP (RFC 6062), on the event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from stunwire import AddressFamily, ErrorCode, TransportAddress

from peerpath.errors import PeerpathError, ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.dialing import STAGGER
from peerpath.net.proxies import Proxy
from peerpath.net.racing import AllFailed, first_success
from peerpath.net.resolving import Resolver
from peerpath.net.waits import Waits
from peerpath.turn.carriers import RelayUri, meets_tcp_peers, parse_relay_uri
from peerpath.turn.client import DEFAULT_LIFETIME, canonical
from peerpath.turn.connection import TurnConnection, TurnRefused, allocate
from peerpath.turn.credentials import LongTermCredentials
from peerpath.turn.data_connection import BindFailed, DataConnection, ProtocolFactory
from peerpath.turn.outputs import (
    Ended,
    Output,
    PeerArrived,
    PeerConnected,
    PeerNotConnected,
    PermissionInstalled,
    PermissionRefused,
)
from peerpath.turn.tcp_client import TcpTurnClient

BIND_SECONDS = 30.0
"""How long a server keeps a connection with a peer for its ConnectionBind (RFC 6062 section 5.2)."""

_CONNECT_SECONDS = 45.0
"""More than a server gives a peer to take the connection, and than a transaction takes to fail."""
_MAX_WAITING = 64

# What a person can act on, in the place of the server's reason.
_NO_TCP = "it offers no TCP relays (RFC 6062)"
_CONNECT_REASONS: dict[int, str] = {
    ErrorCode.FORBIDDEN: "the relay forbids connections to it",
    ErrorCode.ALLOCATION_MISMATCH: "the relay knows no such allocation any more",
    ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH: "it is of another address family than the relayed address",
    ErrorCode.CONNECTION_ALREADY_EXISTS: "the relay has a connection with it already",
    ErrorCode.CONNECTION_TIMEOUT_OR_FAILURE: "it took no connection: it refused, or did not answer in time",
    ErrorCode.ALLOCATION_QUOTA_REACHED: "the user's quota is spent",
    ErrorCode.INSUFFICIENT_CAPACITY: "the relay has no room for another connection",
}
_BIND_REASONS: dict[int | None, str] = {
    ErrorCode.BAD_REQUEST: "the relay has given the connection up: it ended, or was not bound within 30 s",
    ErrorCode.WRONG_CREDENTIALS: "the connection belongs to another user of the relay",
}


class PeerUnavailable(TurnRefused):
    """There is no TCP connection with `peer`. `code` is the STUN error code, None where there was none."""

    def __init__(self, server: str, peer: TransportAddress, reason: str, code: int | None) -> None:
        named = f"{join_host_port(peer)}: {reason}" + (f" ({code})" if code is not None else "")
        super().__init__(server, named, code)
        self.peer = peer


@dataclass(frozen=True, slots=True)
class RelayedStream:
    """A TCP connection with `peer`: what it sends comes out of `reader`, what `writer` gets goes to it.

    `writer.write_eof()` ends this direction alone, where `writer.can_write_eof()`: not over TLS, which has no
    such end. TLS to the relay ends there: the relay, and the way from it to the peer, see what is said.
    """

    peer: TransportAddress
    reader: asyncio.StreamReader = field(repr=False)
    writer: asyncio.StreamWriter = field(repr=False)

    async def close(self) -> None:
        """Returns when what was written has left."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class TcpAllocation:
    """An allocation for TCP, its control connection, and the data connections of its peers.

        async with await TcpAllocation.open("turns:relay.example.org", "alice", "wonderland") as relay:
            async with await relay.connect(TransportAddress("192.0.2.7", 5222)) as stream:
                stream.writer.write(b"hello")
                print(await stream.reader.read(100))

            await relay.permit(["198.51.100.9"])  # whose connections to relay.relayed are let in
            async for stream in relay.incoming():
                ...

    It ends with its control connection, and its connections with it: `ended` says why.
    """

    def __init__(self, connection: TurnConnection) -> None:
        client = connection.client
        assert isinstance(client, TcpTurnClient)
        assert client.mapped is not None
        self.connection = connection
        self.relayed: TransportAddress = client.relayed[0]
        """Where permitted peers connect to, and where `connect` comes from; IPv4 where there are both."""
        self.addresses: tuple[TransportAddress, ...] = client.relayed
        """The same for peers of each family: `relayed`, and with `families` perhaps another one."""
        self.mapped: TransportAddress = client.mapped
        """This client as the server sees it."""
        self.on_attempt: Callable[[PeerArrived], None] | None = None
        """Told of every peer that connects, in the place of `incoming`: `accept` has to follow."""
        self.on_ended: Callable[[str], None] | None = None
        """Told why when the allocation is gone."""
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._connecting: dict[TransportAddress, asyncio.Future[int]] = {}
        self._permitted: set[str] = set()
        self._permitting: dict[str, asyncio.Future[None]] = {}
        self._arrived: asyncio.Queue[tuple[PeerArrived, float] | None] = asyncio.Queue()
        connection.on_output = self._heard

    @classmethod
    async def open(
        cls,
        uri: str | RelayUri,
        username: str,
        password: str,
        *,
        families: Sequence[AddressFamily] | None = None,
        lifetime: int = DEFAULT_LIFETIME,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        resolver: Resolver | None = None,
        waits: Waits | None = None,
        patience: float = 40.0,
    ) -> Self:
        """Allocates on the server of `uri`: `turn:host?transport=tcp` or `turns:host`.

        ValueError for another URI. TurnRefused or ServerError when there is no allocation to be had; its
        `code` is 442 where the server relays no TCP. The others are those of `allocate`.
        """
        found = parse_relay_uri(uri) if isinstance(uri, str) else uri
        if not meets_tcp_peers(found):
            raise ValueError(f"{found}: TCP relays want turn:host?transport=tcp, or turns:host (RFC 6062)")
        resolver, credentials = resolver or Resolver(), LongTermCredentials(username, password)
        if proxy is not None and proxy.remote_names:
            addresses = [TransportAddress(found.host, found.port)]
        else:
            service = "turns" if found.secure else "turn"
            addresses = await resolver.server(
                found.host, found.port, service=service, protocol="tcp", default_port=found.port
            )

        async def at(address: TransportAddress) -> TurnConnection:
            return await allocate(
                found,
                address,
                credentials,
                families=families,
                lifetime=lifetime,
                tls=tls,
                proxy=proxy,
                resolver=resolver,
                waits=waits,
                patience=patience,
                tcp=True,
            )

        attempts = [lambda address=address: at(address) for address in addresses]
        try:
            return cls(await first_success(attempts, stagger=STAGGER, discard=TurnConnection.abort))
        except AllFailed as failed:
            raise _in_words(str(found), failed.failures) from failed

    # -- peers ------------------------------------------------------------------------------------------

    async def connect(self, peer: TransportAddress) -> RelayedStream:
        """A connection from the relayed address to `peer` (RFC 6062 section 4.3).

        PeerUnavailable, saying why there is none. A relay gives a peer that is silent 30 s at least.
        """
        reader = asyncio.StreamReader()
        made = await self.create_connection(peer, lambda: asyncio.StreamReaderProtocol(reader))
        return RelayedStream(peer, reader, asyncio.StreamWriter(*made, reader, self._loop))

    async def permit(self, hosts: Iterable[str | TransportAddress]) -> None:
        """Lets peers of these hosts connect, for as long as the allocation lives (RFC 6062 section 4.4).

        ServerError for the first host that the relay does not let in.
        """
        wanted = [(host, 0) if isinstance(host, str) else host for host in hosts]
        asked = [
            asyncio.shield(self._permission(canonical(host)))
            for host, _ in wanted
            if canonical(host) not in self._permitted
        ]
        self.connection.permit([TransportAddress(*peer) for peer in wanted])
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.gather(*asked)
        except TimeoutError:
            raise ServerError(self.connection.server, "it does not answer CreatePermission") from None

    async def incoming(self) -> AsyncIterator[RelayedStream]:
        """Each peer that connects, once the connection is made; ends with the allocation."""
        while (found := await self._arrived.get()) is not None:
            attempt, arrived_at = found
            if self._loop.time() - arrived_at >= BIND_SECONDS:
                continue  # the relay has given it up
            with suppress(PeerpathError):  # the peer may have gone again
                yield await self._accepted(attempt)

    async def create_connection(
        self, peer: TransportAddress, factory: ProtocolFactory
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """`connect`, for a protocol of one's own, as `loop.create_connection` has it."""
        peer = TransportAddress(canonical(peer[0]), peer[1])
        if peer in self._connecting:
            raise self._unavailable(peer, ErrorCode.CONNECTION_ALREADY_EXISTS, "")
        connected = self._connecting[peer] = self._loop.create_future()
        try:
            self.connection.connect(peer)
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection_id = await connected
        except TimeoutError:
            raise self._unavailable(peer, None, "") from None
        finally:
            del self._connecting[peer]
        return await self._bind(peer, connection_id, factory)

    async def accept(
        self, attempt: PeerArrived, factory: ProtocolFactory
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Takes the connection of a peer, within 30 s of its attempt. PeerUnavailable where that fails."""
        return await self._bind(attempt.peer, attempt.connection_id, factory)

    async def _bind(
        self, peer: TransportAddress, connection_id: int, factory: ProtocolFactory
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        core = self._client.connection_bind(connection_id)
        try:
            async with asyncio.timeout(BIND_SECONDS):
                return await DataConnection.open(self.connection.way, core, factory)
        except BindFailed as failed:
            reason = _BIND_REASONS.get(failed.code, failed.reason)
            raise PeerUnavailable(self.connection.server, peer, reason, failed.code) from failed
        except TimeoutError:
            reason = f"no data connection to the relay within {BIND_SECONDS:g} s"
            raise PeerUnavailable(self.connection.server, peer, reason, None) from None

    def _unavailable(self, peer: TransportAddress, code: int | None, reason: str) -> PeerUnavailable:
        words = _CONNECT_REASONS.get(code or 0) or reason or "the relay does not answer"
        return PeerUnavailable(self.connection.server, peer, words, code)

    async def _accepted(self, attempt: PeerArrived) -> RelayedStream:
        reader = asyncio.StreamReader()
        made = await self.accept(attempt, lambda: asyncio.StreamReaderProtocol(reader))
        return RelayedStream(attempt.peer, reader, asyncio.StreamWriter(*made, reader, self._loop))

    def _permission(self, host: str) -> asyncio.Future[None]:
        """That it is granted; kept by whoever asks next."""
        if host not in self._permitting:
            asked = self._permitting[host] = self._loop.create_future()
            asked.add_done_callback(_look_at)
        return self._permitting[host]

    # -- what happens to it -----------------------------------------------------------------------------

    @property
    def ended(self) -> str:
        """Why the allocation is no more; empty while it lives."""
        connection = self.connection
        return "" if connection.ended is None else connection.lost_because or connection.ended.reason.value

    def _heard(self, output: Output) -> None:
        if isinstance(output, PeerConnected):
            connecting = self._connecting.get(output.peer)
            if connecting is not None and not connecting.done():
                connecting.set_result(output.connection_id)
        elif isinstance(output, PeerNotConnected):
            connecting = self._connecting.get(output.peer)
            if connecting is not None and not connecting.done():
                connecting.set_exception(self._unavailable(output.peer, output.code, output.reason))
        elif isinstance(output, PeerArrived):
            self._welcome(output)
        elif isinstance(output, PermissionInstalled | PermissionRefused):
            self._permission_settled(output)
        elif isinstance(output, Ended):
            self._end()

    def _welcome(self, attempt: PeerArrived) -> None:
        if self.on_attempt is not None:
            self.on_attempt(attempt)
        elif self._arrived.qsize() < _MAX_WAITING:
            self._arrived.put_nowait((attempt, self._loop.time()))

    def _permission_settled(self, output: PermissionInstalled | PermissionRefused) -> None:
        asked = self._permitting.pop(output.host, None)
        if isinstance(output, PermissionInstalled):
            self._permitted.add(output.host)
            if asked is not None:
                asked.set_result(None)
            return
        self._permitted.discard(output.host)
        if asked is not None:
            answer = "does not answer" if output.code is None else f"answers {output.code}"
            reason = f"it {answer} when asked to let {output.host} connect"
            asked.set_exception(TurnRefused(self.connection.server, reason, output.code))

    def _end(self) -> None:
        gone = ServerError(self.connection.server, f"the allocation is gone: {self.ended}")
        waiting: list[asyncio.Future[Any]] = [*self._connecting.values(), *self._permitting.values()]
        for each in waiting:
            if not each.done():
                each.set_exception(gone)
        self._arrived.put_nowait(None)
        if self.on_ended is not None:
            self.on_ended(self.ended)

    async def close(self) -> None:
        """Gives the allocation back: the relay ends the connections of its peers."""
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _in_words(server: str, failures: Sequence[Exception]) -> ServerError:
    """The failure at the server's last address; at each of them it is the same server."""
    last = failures[-1] if failures else None
    if isinstance(last, TurnRefused) and last.code == ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL:
        return TurnRefused(server, f"{last.code} {_NO_TCP}", last.code)
    return last if isinstance(last, ServerError) else ServerError(server, str(last))


def _look_at(asked: asyncio.Future[None]) -> None:
    """asyncio complains of errors that nobody looks at."""
    if not asked.cancelled():
        asked.exception()
