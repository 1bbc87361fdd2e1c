"""StreamRelays: relayed addresses that are reached over TCP, TLS or WebSocket, or through proxies."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from dataclasses import replace

from stunwire import TransportAddress

from peerpath.errors import PeerpathError, ServerError
from peerpath.fallbacks import Fallback
from peerpath.ice.ladder import FallbackEntry, Ladder
from peerpath.ice.outputs import Output
from peerpath.ice.relay_plan import Attempt, RelayOptions, Stage
from peerpath.ice.relays import needs_channel, of_family
from peerpath.ice.servers import SKIPPED, Inquiry, ServerReport
from peerpath.ice.stack import IceStack
from peerpath.ice.tcp_relays import TcpRelays
from peerpath.net.alarm import Alarm
from peerpath.net.dialing import STAGGER
from peerpath.net.proxies import Proxy, ProxyKind
from peerpath.net.racing import AllFailed, first_success
from peerpath.net.resolving import Resolver
from peerpath.net.waits import Waits
from peerpath.net.words import in_words
from peerpath.turn import outputs as turn
from peerpath.turn.carriers import via
from peerpath.turn.client import BOTH_FAMILIES
from peerpath.turn.connection import TurnConnection, allocate
from peerpath.turn.tcp_allocation import TcpAllocation


class StreamRelays:
    """Climbs the ladder, opens the connections, and carries what the agent sends from relayed addresses."""

    def __init__(
        self,
        stack: IceStack,
        do: Callable[[list[Output]], None],
        *,
        resolver: Resolver,
        options: RelayOptions,
        tcp: TcpRelays,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._stack = stack
        self._do = do
        self._resolver = resolver
        self._options = options
        self._tcp = tcp
        self._isolation = options.isolation or secrets.token_bytes(32)
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._ladder = Ladder((), options.head_start, options.path_patience)
        self._reports: dict[tuple[Fallback, Attempt], ServerReport] = {}
        self._connections: dict[TransportAddress, TurnConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm = Alarm(self._loop, self._on_time)
        self._is_closed = False

    def __contains__(self, relayed: TransportAddress) -> bool:
        return relayed in self._connections

    def begin(self, stages: list[Stage]) -> None:
        """Goes for relayed addresses: by the first of the stages now, by the others when their turn comes."""
        now = self._loop.time()
        for stage in stages:
            for attempt in stage.attempts:
                proxy = "" if attempt.proxy is None else attempt.proxy.kind.value
                carried = via(attempt.server.relay_uri)
                inquiry = Inquiry.TCP_ALLOCATION if stage.is_for_tcp else Inquiry.ALLOCATION
                report = self._stack.gatherer.expect_relay(attempt.server.uri, carried, now, proxy, inquiry)
                self._reports[stage.fallback, attempt] = report
        self._ladder = Ladder(stages, self._options.head_start, self._options.path_patience)
        self._start(self._ladder.begin(now))

    def datagrams_gave_one(self) -> None:
        """A server gave a relayed address over UDP."""
        self._skip_soon(self._ladder.succeeded(Fallback.TURN, self._loop.time()))

    def is_not_needed(self, reason: str) -> None:
        """No further fallback is tried, unless the path is lost."""
        self._skip_soon(self._ladder.finish(reason))

    def met(self) -> None:
        """The peer's description is known."""
        self._ladder.met(self._loop.time())
        self._arm()

    def found_path(self) -> None:
        self._ladder.found_path()
        self._arm()

    def lost_path(self) -> None:
        """There is no path any more, or it is silent: fallbacks that were not needed are."""
        self._start(self._ladder.lost_path(self._loop.time()))

    def entries(self) -> tuple[FallbackEntry, ...]:
        """What became of each fallback."""
        asked = [
            report
            for report in self._stack.gatherer.reports
            if report.inquiry is Inquiry.ALLOCATION and report.transport == "udp"
        ]
        over = bool(asked) and all(report.is_settled for report in asked)
        return self._ladder.entries(datagrams_over=over)

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
        self._is_closed = True
        self._alarm.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        connections, self._connections = set(self._connections.values()), {}
        await asyncio.gather(*(connection.close() for connection in connections), return_exceptions=True)

    # -- the ladder -------------------------------------------------------------------------------------

    def _start(self, stages: list[Stage]) -> None:
        for stage in stages:
            for attempt in stage.attempts:
                task = self._loop.create_task(self._open(stage.fallback, attempt))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        self._arm()
        self._loop.call_soon(self._tell_whether_climbing)

    def _arm(self) -> None:
        self._alarm.set(self._ladder.next_deadline())

    def _skip_soon(self, stages: list[Stage]) -> None:
        """Not at once: whoever says so is in the middle of carrying out what the stack decided."""
        self._loop.call_soon(self._skip, stages)

    def _skip(self, stages: list[Stage]) -> None:
        self._arm()
        for stage in stages:
            if stage not in self._ladder.waiting:
                continue  # it has begun meanwhile
            for attempt in stage.attempts:
                report = self._reports[stage.fallback, attempt]
                reason = SKIPPED + self._reason_of(stage.fallback)
                self._do(self._stack.settle_relay(report, reason, self._loop.time()))

    def _reason_of(self, fallback: Fallback) -> str:
        return next(entry.reason for entry in self._ladder.entries() if entry.fallback == fallback.value)

    def _on_time(self) -> None:
        self._start(self._ladder.handle_timeout(self._loop.time()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._tell_whether_climbing()

    def _tell_whether_climbing(self) -> None:
        """While more relayed addresses may come, no pair that works is no failure."""
        if not self._is_closed:
            is_climbing = bool(self._tasks or self._ladder.waiting)
            self._do(self._stack.set_climbing(is_climbing, self._loop.time()))

    # -- the connections --------------------------------------------------------------------------------

    async def _open(self, fallback: Fallback, attempt: Attempt) -> None:
        report, patience = self._reports[fallback, attempt], self._patience(fallback)
        now = self._loop.time()
        self._stack.gatherer.begin_relay(report, now, now + patience)
        try:
            async with asyncio.timeout(patience):
                made = await self._make(attempt, fallback)
        except (PeerpathError, OSError) as error:
            late = isinstance(error, TimeoutError)
            reason = f"no relayed address within {patience:g} s" if late else _without_server(error)
            self._do(self._stack.settle_relay(report, reason, self._loop.time()))
            self._start(self._ladder.failed(fallback, self._loop.time()))
            return
        skipped = self._ladder.succeeded(fallback, self._loop.time())
        if isinstance(made, TcpAllocation):
            self._add_tcp(made, attempt, report)
        else:
            self._add(made, attempt, report)
        self._skip(skipped)

    def _add_tcp(self, allocation: TcpAllocation, attempt: Attempt, report: ServerReport) -> None:
        relayed, mapped, host = allocation.addresses, allocation.mapped, allocation.connection.address.host
        self._tcp.add(allocation)
        self._do(self._stack.add_tcp_relay(report, relayed, mapped, host, attempt.index, self._loop.time()))

    def _add(self, connection: TurnConnection, attempt: Attempt, report: ServerReport) -> None:
        client = connection.client
        assert client.mapped is not None
        connection.on_output = lambda output: self._received(connection, output)
        self._connections.update(dict.fromkeys(client.relayed, connection))
        now, host = self._loop.time(), connection.address.host
        self._do(self._stack.add_relay(report, client.relayed, client.mapped, host, attempt.index, now))

    def _patience(self, fallback: Fallback) -> float:
        return self._options.onion_patience if fallback is Fallback.ONION else self._options.patience

    def _waits(self, fallback: Fallback) -> Waits:
        if fallback is Fallback.ONION:
            return replace(self._options.waits, answer=self._options.onion_patience)
        return self._options.waits

    async def _make(self, attempt: Attempt, fallback: Fallback) -> TurnConnection | TcpAllocation:
        if fallback is Fallback.TCP_RELAY:
            return await self._allocate_tcp(attempt, fallback)
        return await self._allocate(attempt, fallback)

    async def _allocate(self, attempt: Attempt, fallback: Fallback) -> TurnConnection:
        server, proxy = attempt.server, self._isolated(attempt.proxy)
        uri, credentials = server.relay_uri, server.credentials
        assert credentials is not None
        if proxy is not None and proxy.remote_names:
            addresses = [TransportAddress(uri.host, uri.port)]
        else:
            addresses = await server.addresses(self._resolver)

        async def through(address: TransportAddress) -> TurnConnection:
            return await allocate(
                uri,
                address,
                credentials,
                families=BOTH_FAMILIES,
                tls=self._tls,
                proxy=proxy,
                resolver=self._resolver,
                waits=self._waits(fallback),
                patience=self._patience(fallback),
            )

        attempts = [lambda address=address: through(address) for address in addresses]
        return await first_success(attempts, stagger=STAGGER, discard=TurnConnection.abort)

    async def _allocate_tcp(self, attempt: Attempt, fallback: Fallback) -> TcpAllocation:
        server = attempt.server
        return await TcpAllocation.open(
            server.relay_uri,
            server.username,
            server.password,
            families=BOTH_FAMILIES,
            tls=self._tls,
            proxy=attempt.proxy,
            resolver=self._resolver,
            waits=self._waits(fallback),
            patience=self._patience(fallback),
        )

    def _isolated(self, proxy: Proxy | None) -> Proxy | None:
        if proxy is None or proxy.kind is not ProxyKind.TOR:
            return proxy
        return proxy.isolated(self._isolation)

    def _received(self, connection: TurnConnection, output: turn.Output) -> None:
        """What a connection has to say, once it has its relayed addresses."""
        stack, now, addresses = self._stack, self._loop.time(), connection.client.relayed
        if isinstance(output, turn.PeerData):
            relayed = of_family(addresses, output.peer.host)
            if relayed is not None:
                self._do(stack.receive(output.data, relayed, output.peer, now))
        elif isinstance(output, turn.PermissionRefused):
            answer = "did not answer" if output.code is None else f"answered {output.code}"
            relayed = of_family(addresses, output.host)
            if relayed is not None:
                reason = f"the relay {answer} when asked to permit it"
                self._do(stack.refuse(relayed, output.host, reason, now))
        elif isinstance(output, turn.Ended):
            for relayed in addresses:
                self._connections.pop(relayed, None)
                self._do(stack.remove_relay(relayed, f"the relay is gone: {output.reason.value}", now))


def _without_server(error: Exception) -> str:
    """The report names the server beside the reason."""
    failures = error.failures if isinstance(error, AllFailed) else (error,)
    return "; ".join(dict.fromkeys(map(_words, failures))) or str(error)


def _words(failure: Exception) -> str:
    if isinstance(failure, ServerError):
        return failure.reason
    return in_words(failure) if isinstance(failure, OSError) else str(failure)
