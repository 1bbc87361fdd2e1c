"""TcpRelays: relayed addresses that meet peers over TCP (RFC 6062), as paths (RFC 6544)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stunwire import ErrorCode, TransportAddress

from peerpath.errors import PeerpathError
from peerpath.ice.candidate import DISCARD_PORT, Candidate
from peerpath.ice.outputs import Output
from peerpath.ice.pair import PathKey
from peerpath.ice.relays import of_family
from peerpath.ice.stack import IceStack
from peerpath.ice.tcp_stream import TcpStream
from peerpath.turn.outputs import PeerArrived
from peerpath.turn.tcp_allocation import PeerUnavailable, TcpAllocation

_PATIENCE = 12.0
"""Seconds in which a connection must come up."""
_ATTEMPTS = 5
"""The peer's relay may learn only now whom it shall let in."""
_FIRST_PAUSE = 0.1
_MAX_STREAMS = 64
_MAX_PEERS = 64
_MAX_WAITING = 8
"""Datagrams kept for a connection that is being opened."""
# Another attempt would be answered the same. All else may be the peer's own connection that is on its way:
# coturn answers 500 then, or 446 as the RFC has it.
_FINAL = frozenset(
    {
        ErrorCode.FORBIDDEN,
        ErrorCode.ALLOCATION_MISMATCH,
        ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH,
        ErrorCode.ALLOCATION_QUOTA_REACHED,
    }
)

Arrived = Callable[[bytes, TransportAddress, TransportAddress], None]


@dataclass(slots=True)
class _Connection:
    """What there is between a relayed address and one of a peer, whoever opened it."""

    stream: TcpStream | None = None
    opening: asyncio.Task[None] | None = None
    attempts: int = 0
    waiting: list[bytes] = field(default_factory=list)


class TcpRelays:
    """One connection for each peer of a relayed address: either side may open it, and the relay has one.

    Where both sides have such addresses, both connect; the relays make one connection of it, or tell the
    later one that the other is there (446), which then comes as a ConnectionAttempt.
    """

    def __init__(self, stack: IceStack, do: Callable[[Sequence[Output]], None], arrived: Arrived) -> None:
        self._stack = stack
        self._do = do
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._allocations: dict[TransportAddress, TcpAllocation] = {}
        self._connections: dict[PathKey, _Connection] = {}
        self._peers: set[TransportAddress] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, relayed: TransportAddress) -> bool:
        return relayed in self._allocations

    # -- relayed addresses ------------------------------------------------------------------------------

    def add(self, allocation: TcpAllocation) -> None:
        """From now on its peers are those of the agent."""
        allocation.on_attempt = lambda attempt: self._spawn(self._accept(allocation, attempt))
        allocation.on_ended = lambda reason: self._ended(allocation, reason)
        for relayed in allocation.addresses:
            self._allocations[relayed] = allocation
            for address in self._peers:
                self.permit(relayed, address)

    def told(self, candidate: Candidate) -> None:
        """A candidate of the peer's: from there it may connect. A permission names a host (RFC 6062 4.4)."""
        address = candidate.address
        if candidate.is_tcp and address.port != DISCARD_PORT and len(self._peers) < _MAX_PEERS:
            self._peers.add(address)
            for relayed in self._allocations:
                self.permit(relayed, address)

    def permit(self, relayed: TransportAddress, peer: TransportAddress) -> None:
        """Without it we may still connect to the peer, so a refusal is no failure."""
        if (":" in relayed.host) == (":" in peer.host):
            self._allocations[relayed].connection.permit([peer])

    def _ended(self, allocation: TcpAllocation, reason: str) -> None:
        for relayed in allocation.addresses:
            self._allocations.pop(relayed, None)
            self._drop(relayed)
            now = self._loop.time()
            self._do(self._stack.remove_relay(relayed, f"the relay is gone: {reason}", now))

    # -- sending ----------------------------------------------------------------------------------------

    def send(self, relayed: TransportAddress, peer: TransportAddress, data: bytes) -> None:
        """One datagram on the connection between the two, which is opened where there is none."""
        connection = self._connections.setdefault((relayed, peer), _Connection())
        if connection.stream is not None:
            connection.stream.send(data)
            return
        connection.waiting.append(data)
        del connection.waiting[:-_MAX_WAITING]
        if connection.opening is None:
            self._open_soon((relayed, peer), connection)

    def _open_soon(self, key: PathKey, connection: _Connection) -> None:
        connection.opening = self._loop.create_task(self._open(key, connection))

    async def _open(self, key: PathKey, connection: _Connection) -> None:
        relayed, peer = key
        try:
            async with asyncio.timeout(_PATIENCE):
                pause = 0.0 if not connection.attempts else _FIRST_PAUSE * 2 ** (connection.attempts - 1)
                await asyncio.sleep(pause)
                while not await self._connect(relayed, peer, connection):
                    pause = 2 * pause or _FIRST_PAUSE
                    await asyncio.sleep(pause)
        except (PeerpathError, OSError) as error:
            late = isinstance(error, TimeoutError)
            self._lost(key, connection, f"no connection within {_PATIENCE:g} s" if late else str(error))
        finally:
            if connection.opening is asyncio.current_task():
                connection.opening = None

    async def _connect(
        self, relayed: TransportAddress, peer: TransportAddress, connection: _Connection
    ) -> bool:
        """Whether it came up; if not, another attempt is worth it. PeerpathError if not that either."""
        connection.attempts += 1
        try:
            await self._allocations[relayed].create_connection(peer, lambda: self._stream(relayed, peer))
        except PeerUnavailable as unavailable:
            is_there = unavailable.code == ErrorCode.CONNECTION_ALREADY_EXISTS
            if unavailable.code in _FINAL or (connection.attempts >= _ATTEMPTS and not is_there):
                raise
            return False
        return True

    async def _accept(self, allocation: TcpAllocation, attempt: PeerArrived) -> None:
        """The peer has connected: its first check lets it in."""
        relayed = of_family(allocation.addresses, attempt.peer.host)
        if relayed is not None and len(self._connections) < _MAX_STREAMS:
            with suppress(PeerpathError):  # it may have gone again
                await allocation.accept(
                    attempt, lambda: self._stream(relayed, attempt.peer, is_accepted=True)
                )

    # -- connections ------------------------------------------------------------------------------------

    def _stream(
        self, relayed: TransportAddress, peer: TransportAddress, *, is_accepted: bool = False
    ) -> TcpStream:
        is_check = self._stack.agent.is_check if is_accepted else None
        return TcpStream(relayed, peer, self._opened, self._arrived, self._closed, is_check)

    def _opened(self, stream: TcpStream) -> bool:
        """Whether there is room for it."""
        key = (stream.base, stream.remote)
        connection = self._connections.setdefault(key, _Connection())
        if connection.stream is not None or len(self._connections) > _MAX_STREAMS:
            return False
        connection.stream = stream
        if stream.is_accepted and connection.opening is not None:
            connection.opening.cancel()
            connection.opening = None
        waiting, connection.waiting = connection.waiting, []
        for data in waiting:
            stream.send(data)
        return True

    def _closed(self, stream: TcpStream, reason: str) -> None:
        key = (stream.base, stream.remote)
        connection = self._connections.get(key)
        if connection is None or connection.stream is not stream:
            return
        connection.stream = None
        if not stream.is_heard and connection.attempts < _ATTEMPTS and stream.base in self:
            connection.waiting = stream.unheard
            self._open_soon(key, connection)
        else:
            self._lost(key, connection, reason)

    def _lost(self, key: PathKey, connection: _Connection, reason: str) -> None:
        if connection.stream is None and self._connections.get(key) is connection:
            del self._connections[key]
            self._do(self._stack.connection_lost(*key, reason, self._loop.time()))

    def _drop(self, relayed: TransportAddress) -> None:
        for key in [key for key in self._connections if key[0] == relayed]:
            connection = self._connections.pop(key)
            if connection.opening is not None:
                connection.opening.cancel()
            if connection.stream is not None:
                connection.stream.close()

    # -- the end ----------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Gives the relayed addresses back."""
        tasks = [*self._tasks, *(each.opening for each in self._connections.values() if each.opening)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        allocations = set(self._allocations.values())
        for allocation in allocations:
            allocation.on_ended = None
        for relayed in self._allocations:
            self._drop(relayed)
        self._allocations = {}
        await asyncio.gather(*(allocation.close() for allocation in allocations), return_exceptions=True)
