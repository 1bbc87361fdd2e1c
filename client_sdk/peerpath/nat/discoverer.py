"""Carries BehaviourDiscovery over the network, and asks over TCP where no UDP passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from stunwire import TransportAddress

from peerpath.errors import PeerpathError, ServerFailure, TraversalError
from peerpath.nat.behaviour import NatBehaviour
from peerpath.nat.discovery import BehaviourDiscovery, Discovered, Output, Progress, SendFrom, Socket
from peerpath.net.addresses import join_host_port
from peerpath.net.alarm import Alarm
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.interfaces import source_towards
from peerpath.net.racing import AllFailed, first_success
from peerpath.net.resolving import Resolver
from peerpath.stun.binding import BindingAnswer
from peerpath.stun.client import ServerLike
from peerpath.stun.servers import StunServer
from peerpath.stun.sockets import BindingFailed, ask_over_stream

_TCP_AFTER_SECONDS = 1.0
"""How long UDP may stay silent before TCP is asked whether the servers live at all."""
_TCP_SECONDS = 4.0
_ENOUGH_SECONDS = 2.5
"""How long UDP may stay silent, three transmissions, where TCP has found a server alive."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found out, and the servers that did not help."""

    behaviour: NatBehaviour
    failures: tuple[ServerFailure, ...] = ()


async def discover_behaviour(
    servers: Sequence[ServerLike],
    *,
    on_progress: Callable[[str, float], None] | None = None,
    resolver: Resolver | None = None,
) -> Discovery:
    """Finds out what the NAT does, within 12 s at most. IPv4 is looked at where both families are there.

    One server with two addresses (RFC 5780) tells everything; two plain ones at different addresses tell the
    mapping. ValueError for a server that cannot be parsed, TraversalError when none can be sent to at all.
    """
    parsed = [StunServer.parse(server) for server in servers]
    if not parsed:
        raise ValueError("name at least one STUN server")
    addresses, failures = await _resolve(parsed, resolver or Resolver())
    if not addresses:
        raise TraversalError("No STUN server can be sent to:", failures)
    local_host = source_towards(addresses[0])
    assert local_host is not None
    sockets = {socket: await DatagramSocket.open((local_host, 0)) for socket in Socket}
    try:
        driver = _Driver(addresses, sockets, on_progress)
        fallback = asyncio.ensure_future(_ask_over_tcp(addresses))
        fallback.add_done_callback(driver.server_lives)
        try:
            discovered = await driver.run()
            behaviour = discovered.behaviour
            if behaviour.udp_blocked:
                behaviour = await _explain_silence(behaviour, fallback)
        finally:
            fallback.cancel()
            with suppress(asyncio.CancelledError, PeerpathError, OSError):
                await fallback
    finally:
        for socket in sockets.values():
            socket.close()
    failures += [
        ServerFailure(join_host_port(server), reason) for server, reason in discovered.failures.items()
    ]
    return Discovery(behaviour, tuple(failures))


class _Driver:
    def __init__(
        self,
        servers: Sequence[TransportAddress],
        sockets: dict[Socket, DatagramSocket],
        on_progress: Callable[[str, float], None] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._sockets = sockets
        self._on_progress = on_progress
        self._core = BehaviourDiscovery(servers, {label: made.local for label, made in sockets.items()})
        self._end: asyncio.Future[Discovered] = self._loop.create_future()
        self._alarm = Alarm(self._loop, self._on_time)

    async def run(self) -> Discovered:
        for label, socket in self._sockets.items():
            self._listen(label, socket)
        try:
            self._carry_out(self._core.start(self._loop.time()))
            return await self._end
        finally:
            self._alarm.cancel()

    def server_lives(self, answer: asyncio.Future[BindingAnswer]) -> None:
        """TCP has got an answer, or has failed to."""
        if not answer.cancelled() and answer.exception() is None:
            patience = _ENOUGH_SECONDS - (self._loop.time() - self._started_at)
            self._loop.call_later(patience, lambda: self._carry_out(self._core.give_up(self._loop.time())))

    def _listen(self, label: Socket, socket: DatagramSocket) -> None:
        def received(data: bytes, source: TransportAddress) -> None:
            self._carry_out(self._core.receive(label, data, source, self._loop.time()))

        socket.on_datagram = received

    def _on_time(self) -> None:
        self._carry_out(self._core.handle_timeout(self._loop.time()))

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, SendFrom):
                self._sockets[output.socket].send(output.data, output.to)
            elif isinstance(output, Progress):
                if self._on_progress is not None:
                    self._on_progress(output.text, output.done)
            elif not self._end.done():
                self._end.set_result(output)
        self._alarm.set(self._core.next_deadline())


async def _resolve(
    servers: Sequence[StunServer], resolver: Resolver
) -> tuple[list[TransportAddress], list[ServerFailure]]:
    """The addresses that there is a route to, of one family."""
    failures = [
        ServerFailure(
            str(server), f"NAT behaviour is a matter of UDP, this one is named for {server.transport}"
        )
        for server in servers
        if server.transport != "udp"
    ]
    servers = [server for server in servers if server.transport == "udp"]
    results = await asyncio.gather(
        *(server.addresses(resolver) for server in servers), return_exceptions=True
    )
    reachable: list[TransportAddress] = []
    for server, result in zip(servers, results, strict=True):
        if isinstance(result, PeerpathError | OSError):
            failures.append(ServerFailure(str(server), str(result)))
            continue
        if isinstance(result, BaseException):
            raise result
        routed = [address for address in result if source_towards(address) is not None]
        if not routed:
            failures.append(ServerFailure(str(server), "no route"))
        reachable += routed
    four = [address for address in reachable if ":" not in address.host]
    return list(dict.fromkeys(four or reachable)), failures


async def _ask_over_tcp(servers: Sequence[TransportAddress]) -> BindingAnswer:
    """The first answer over TCP, after UDP has had its chance."""

    async def ask(server: TransportAddress) -> BindingAnswer:
        result, _ = await ask_over_stream(server)
        if isinstance(result, BindingAnswer):
            return result
        raise BindingFailed(join_host_port(server), result)

    await asyncio.sleep(_TCP_AFTER_SECONDS)
    async with asyncio.timeout(_TCP_SECONDS):
        return await first_success([lambda server=server: ask(server) for server in servers])  # type: ignore[misc]


async def _explain_silence(behaviour: NatBehaviour, fallback: asyncio.Future[BindingAnswer]) -> NatBehaviour:
    try:
        answer = await fallback
    except (AllFailed, TimeoutError):
        note = "Nor did any by TCP: this machine is offline, or none of the servers lives."
        return replace(behaviour, notes=(*behaviour.notes, note))
    note = "They do answer by TCP, so UDP is blocked on the way."
    return replace(
        behaviour,
        public_address=answer.mapped,
        server=answer.server,
        notes=(*behaviour.notes, note),
    )
