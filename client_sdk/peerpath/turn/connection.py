"""TurnConnection: carries a TurnClient over UDP, TCP, TLS or WebSocket on the event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Self

from stunwire import AddressFamily, TransportAddress

from peerpath.errors import ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.alarm import Alarm
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.proxies import Proxy
from peerpath.net.resolving import Resolver
from peerpath.net.streams import FrameStream
from peerpath.net.waits import Waits
from peerpath.turn.carriers import Carrier, RelayUri, Way
from peerpath.turn.client import DEFAULT_LIFETIME, TurnClient
from peerpath.turn.credentials import LongTermCredentials
from peerpath.turn.outputs import (
    Allocated,
    Ended,
    EndReason,
    Output,
    PeerData,
    Refused,
    Transmit,
    TryAlternate,
)
from peerpath.turn.tcp_client import TcpTurnClient

_MAX_REDIRECTS = 3
_MAX_PORTS = 3

FAREWELL_SECONDS = 1.0
"""How long the end of an allocation is waited for: enough to repeat a request once that got lost."""


class TurnRefused(ServerError):
    """The server answered, and would not relay. `code` is the STUN error code, None where there was none."""

    def __init__(self, server: str, reason: str, code: int | None = None) -> None:
        super().__init__(server, reason)
        self.code = code


class TurnConnection:
    """One TurnClient and the socket or connection that it talks through.

    Every output but `Transmit` goes to `on_output`, on the event loop. All methods are plain calls; `close`
    alone waits. Made by `TurnConnection.open`, which returns when the connection is there, not when the
    allocation is: `Allocated` or `Ended` say so, and `allocate` waits for them.
    """

    def __init__(
        self,
        way: Way,
        client: TurnClient,
        on_output: Callable[[Output], None] | None,
    ) -> None:
        self.server = str(way.uri)
        self.way = way
        self.client = client
        self.on_output = on_output
        self.alternate: TryAlternate | None = None
        self.refused: Refused | None = None
        self.ended: Ended | None = None
        self.lost_because = ""
        self._carrier: Carrier | None = None
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._on_time)
        self._changed = asyncio.Event()

    @classmethod
    async def open(
        cls,
        uri: RelayUri,
        address: TransportAddress,
        credentials: LongTermCredentials,
        on_output: Callable[[Output], None] | None = None,
        *,
        families: Sequence[AddressFamily] | None = None,
        lifetime: int = DEFAULT_LIFETIME,
        local_host: str | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        proxy: Proxy | None = None,
        resolver: Resolver | None = None,
        waits: Waits | None = None,
        rto: float = 0.5,
        tcp: bool = False,
    ) -> Self:
        """Connects to `address`, one of those that the host of `uri` resolves to, and asks for an allocation.

        With `turns:` and `wss:` the certificate must be for the host of `uri` (or `server_name`) and from an
        authority this machine trusts, unless `tls` is given: then its rules hold. Through a `proxy` the host
        of `address` may be a name. With `tcp` the client is a TcpTurnClient. ServerError when nobody is
        there.
        """
        if uri.secure and uri.transport == "udp":
            raise ServerError(str(uri), "TURN over DTLS is not spoken here: use ?transport=tcp")
        reliable = uri.transport == "tcp"
        kind = TcpTurnClient if tcp else TurnClient
        client = kind(credentials, reliable=reliable, families=families, lifetime=lifetime, rto=rto)
        way = Way(uri, address, tls, server_name, local_host, proxy, resolver, waits or Waits())
        made = cls(way, client, on_output)
        made._carrier = await made.way.open(made._received, made._disconnected)
        if isinstance(made._carrier, DatagramSocket):
            made._carrier.on_error = made._unreachable
        made._carry_out(client.start(made._loop.time()))
        return made

    @property
    def address(self) -> TransportAddress:
        """Where the server is."""
        return self.way.address

    @property
    def local(self) -> TransportAddress:
        """This side of the way to the server."""
        assert self._carrier is not None
        return self._carrier.local

    @property
    def round_trip(self) -> float | None:
        """What one took when the connection was made, in seconds; None over UDP."""
        return self._carrier.round_trip if isinstance(self._carrier, FrameStream) else None

    async def allocated(self, patience: float = 40.0) -> TurnConnection:
        """Waits for the allocation. TurnRefused or ServerError when there is none; it is closed then."""
        try:
            async with asyncio.timeout(patience):
                while not self.client.relayed and self.ended is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            await self.close()
            raise ServerError(self.server, f"no allocation within {round(patience, 1):g} s") from None
        except BaseException:
            self.abort()
            raise
        if self.ended is not None:
            raise self.failure()
        return self

    def failure(self) -> ServerError:
        """Why there is no allocation, once `ended` says so."""
        if self.refused is not None:
            return TurnRefused(self.server, f"{self.refused.code} {self.refused.reason}", self.refused.code)
        if self.alternate is not None:
            where = join_host_port(self.alternate.server)
            return TurnRefused(self.server, f"300 it sends clients to {where}", 300)
        reason = self.lost_because or (self.ended.reason.value if self.ended else "no allocation yet")
        return ServerError(self.server, reason)

    # -- what the caller wants ---------------------------------------------------------------------------

    def permit(self, peers: Iterable[str | TransportAddress]) -> None:
        self._carry_out(self.client.permit(peers, self._loop.time()))

    def bind(self, peer: TransportAddress) -> None:
        self._carry_out(self.client.bind(peer, self._loop.time()))

    def connect(self, peer: TransportAddress) -> None:
        """Asks for a TCP connection with `peer`; of an allocation for TCP."""
        assert isinstance(self.client, TcpTurnClient)
        self._carry_out(self.client.connect(peer, self._loop.time()))

    def forget(self, hosts: Iterable[str | TransportAddress]) -> None:
        self._carry_out(self.client.forget(hosts, self._loop.time()))

    def send(self, peer: TransportAddress, data: bytes) -> None:
        """One datagram. Over a stream that does not keep up it is dropped, as a network would."""
        if isinstance(self._carrier, FrameStream) and self._carrier.congested:
            return
        self._carry_out(self.client.send(peer, data, self._loop.time()))

    async def close(self) -> None:
        """Gives the allocation back, and waits a second at most for the server's word."""
        self._carry_out(self.client.close(self._loop.time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                while self.ended is None:
                    self._changed.clear()
                    await self._changed.wait()
        self.abort()

    def abort(self) -> None:
        """Lets go at once: the server finds out when the allocation expires, or the connection breaks."""
        self._alarm.cancel()
        if self._carrier is not None:
            self._carrier.close()
        if self.ended is None:
            self._carry_out(self.client.disconnected(self._loop.time()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- what happens to it ------------------------------------------------------------------------------

    def _received(self, frame: bytes) -> None:
        self._carry_out(self.client.receive(frame, self._loop.time()))

    def _disconnected(self, reason: str) -> None:
        self.lost_because = reason
        self._carry_out(self.client.disconnected(self._loop.time()))

    def _unreachable(self, error: OSError) -> None:
        """ICMP errors: believed while nothing has been heard of the server, and a rumour afterwards."""
        if not self.client.relayed and isinstance(error, ConnectionRefusedError):
            self._disconnected("nobody listens on that port")

    def _on_time(self) -> None:
        self._carry_out(self.client.handle_timeout(self._loop.time()))

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Transmit):
                assert self._carrier is not None
                self._carrier.send(output.data)
                continue
            if not isinstance(output, PeerData):
                self._note(output)
            if self.on_output is not None:
                self.on_output(output)
        self._alarm.set(self.client.next_deadline())

    def _note(self, output: Output) -> None:
        if isinstance(output, Refused):
            self.refused = output
        elif isinstance(output, TryAlternate):
            self.alternate = output
        elif isinstance(output, Ended):
            self.ended = output
            if self._carrier is not None:
                self._carrier.close()
        self._changed.set()


async def allocate(
    uri: RelayUri,
    address: TransportAddress,
    credentials: LongTermCredentials,
    on_output: Callable[[Output], None] | None = None,
    *,
    families: Sequence[AddressFamily] | None = None,
    lifetime: int = DEFAULT_LIFETIME,
    local_host: str | None = None,
    tls: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
    resolver: Resolver | None = None,
    waits: Waits | None = None,
    patience: float = 40.0,
    tcp: bool = False,
) -> TurnConnection:
    """A connection with its allocation. Follows redirections, and takes a new port where the old one is held.

    With `tcp` the allocation is for peers over TCP, and better made by `TcpAllocation.open`.

    TurnRefused or ServerError, naming the server, when there is none to be had; `patience` is how many
    seconds each server gets to take the connection, and again to answer. Over a stream, where nothing is sent
    twice, `waits` bounds each step more closely.
    """
    waits = waits or Waits()
    visited = {address}
    server_name: str | None = None
    ports = 0
    while True:
        try:
            async with asyncio.timeout(patience):
                connection = await TurnConnection.open(
                    uri,
                    address,
                    credentials,
                    on_output,
                    families=families,
                    lifetime=lifetime,
                    local_host=local_host,
                    tls=tls,
                    server_name=server_name,
                    proxy=proxy,
                    resolver=resolver,
                    waits=waits,
                    tcp=tcp,
                )
        except TimeoutError:
            raise ServerError(str(uri), f"no connection within {patience:g} s") from None
        if connection.round_trip is not None:
            answer = min(patience, waits.for_answer(connection.round_trip))
        else:
            answer = patience
        try:
            return await connection.allocated(answer)
        except ServerError:
            alternate, ended = connection.alternate, connection.ended
            if alternate is not None and alternate.server not in visited and len(visited) <= _MAX_REDIRECTS:
                address, server_name = alternate.server, alternate.domain or server_name
                visited.add(address)
                continue
            ports += 1
            if ended == Ended(EndReason.NEW_FIVE_TUPLE_NEEDED) and ports < _MAX_PORTS:
                continue
            raise


__all__ = ["Allocated", "TurnConnection", "TurnRefused", "allocate"]
