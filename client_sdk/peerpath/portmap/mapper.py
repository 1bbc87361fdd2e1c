"""PortMapper: the three protocols raced, and the mapping of the first kept for as long as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stunwire import TransportAddress

from peerpath.portmap.gateway_link import GatewayLink
from peerpath.portmap.gateways import Gateway
from peerpath.portmap.mapping import (
    Event,
    Found,
    Granted,
    Lost,
    Mapping,
    MappingError,
    MappingMethod,
    Refused,
)
from peerpath.portmap.nat_pmp import NatPmpClient
from peerpath.portmap.pcp import PcpClient
from peerpath.portmap.ssdp import RestartListener

if TYPE_CHECKING:
    from peerpath.portmap.upnp import UpnpClient

_GRACE = 0.3
"""Seconds for which those protocols are waited for that take less to get the same."""
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0
"""Seconds after which a mapping that was lost is asked for again; doubled each time."""
_LONGEST_LOOK = 3600.0
_TOO_LATE = "not needed: another protocol was faster"
_GOODBYE = 1.0
"""Seconds for giving a UPnP mapping back, which takes a connection."""


@dataclass(slots=True)
class MappingAttempt:
    """One protocol at one gateway. Times are seconds of the event loop's clock."""

    method: MappingMethod
    gateway: str
    begun_at: float
    settled_at: float | None = None
    mapping: Mapping | None = None
    reason: str = ""
    """Why there is no mapping; empty while it is waited for, and if there is one."""

    def settle(self, outcome: Mapping | str, now: float) -> None:
        self.settled_at = now
        if isinstance(outcome, Mapping):
            self.mapping, self.reason = outcome, ""
        else:
            self.mapping, self.reason = None, outcome


OnMapping = Callable[[Mapping | None], None]
OnAttempt = Callable[[MappingAttempt], None]


class PortMapper:
    """One mapping for one socket.

    PCP asks for the mapping with its first packet. NAT-PMP and UPnP look whether the gateway speaks them and
    ask when it is their turn: two mappings for one socket would be one too many, and on some gateways the
    deletion of one takes the other along. `on_mapping` is told of the mapping, of another one in its place,
    and of None when it is gone; `on_attempt` whenever one protocol has come to an end.
    """

    def __init__(
        self,
        internal: TransportAddress,
        gateway: Gateway,
        on_mapping: OnMapping,
        *,
        on_attempt: OnAttempt | None = None,
        methods: Sequence[MappingMethod] = tuple(MappingMethod),
        transport: str = "udp",
        lifetime: int | None = None,
    ) -> None:
        """`lifetime` is in seconds, and what each protocol recommends where it is left out."""
        self.internal = internal
        self.gateway = gateway
        self.attempts: list[MappingAttempt] = []
        self._asked: dict[str, Any] = {"transport": transport}
        if lifetime is not None:
            self._asked["lifetime"] = lifetime
        self._on_mapping = on_mapping
        self._on_attempt = on_attempt
        self._methods = tuple(methods)
        self._loop = asyncio.get_running_loop()
        self._running: dict[MappingMethod, asyncio.Task[None]] = {}
        self._settled: dict[MappingMethod, asyncio.Event] = {}
        self._turn = asyncio.Lock()
        self._winner: MappingMethod | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE

    def start(self) -> None:
        """Begins the race; returns at once."""
        self._winner = None
        self._settled = {method: asyncio.Event() for method in self._methods}
        ways = {
            MappingMethod.PCP: self._by_pcp,
            MappingMethod.NAT_PMP: self._by_nat_pmp,
            MappingMethod.UPNP: self._by_upnp,
        }
        for method in self._methods:
            attempt = MappingAttempt(method, self.gateway.host, self._loop.time())
            self.attempts.append(attempt)
            self._running[method] = asyncio.ensure_future(self._guard(ways[method], attempt))

    async def close(self) -> None:
        """Gives the mapping back."""
        if self._restart is not None:
            self._restart.cancel()
        running = list(self._running.values())
        self._running = {}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # -- the race ---------------------------------------------------------------------------------------

    async def _guard(self, way: Callable[[MappingAttempt], Awaitable[None]], attempt: MappingAttempt) -> None:
        try:
            await way(attempt)
        except MappingError as error:
            self._fail(attempt, str(error))
        except OSError as error:
            self._fail(attempt, error.strerror or str(error))
        finally:
            if attempt.settled_at is None:
                self._fail(attempt, _TOO_LATE if self._winner else "the socket was closed first")
            self._settled[attempt.method].set()

    async def _by_pcp(self, attempt: MappingAttempt) -> None:
        await self._hold(PcpClient(self.internal, **self._asked), attempt)

    async def _by_nat_pmp(self, attempt: MappingAttempt) -> None:
        if ":" in self.internal.host:
            raise MappingError("not tried: it maps IPv4 addresses only")
        await self._hold(NatPmpClient(self.internal, **self._asked), attempt)

    async def _hold(self, client: PcpClient | NatPmpClient, attempt: MappingAttempt) -> None:
        """From the first request to the loss of the mapping, or to the end of this task."""
        events: asyncio.Queue[Event] = asyncio.Queue()
        link = GatewayLink(client, self.gateway, events.put_nowait)
        try:
            await link.open()
            event = await events.get()
            if isinstance(event, Found):
                assert isinstance(client, NatPmpClient)
                await self._prefer_others(attempt.method)
                async with self._claim():
                    link.carry(client.map(self._loop.time()))
                    self._take(await events.get(), attempt)
            else:
                self._take(event, attempt)
            await link.listen()
            while True:
                self._take(await events.get(), attempt)
        finally:
            link.close()

    async def _by_upnp(self, attempt: MappingAttempt) -> None:
        await self._prefer_others(attempt.method)
        # Its libraries take a fifth of a second to import: not on the event loop, and only where needed.
        upnp = await asyncio.to_thread(import_module, "peerpath.portmap.upnp")
        client: UpnpClient = upnp.UpnpClient(self.internal, self.gateway, **self._asked)
        await client.find()
        listener = RestartListener(self.gateway)
        try:
            async with self._claim():
                self._take(Granted(await client.map()), attempt)
            await listener.open(self.internal.host)
            while client.mapping is not None:
                # Half of its life, or now and then a look at what was given for ever.
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(client.mapping.lifetime, _LONGEST_LOOK) / 2):
                        await listener.restarted.wait()
                listener.restarted.clear()
                self._take(await self._renewed(client), attempt)
        finally:
            listener.close()
            others = (each.mapping for each in self.attempts if each is not attempt)
            held = {mapping.external.port for mapping in others if mapping is not None}
            with suppress(MappingError, TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await client.delete(keep=held)

    async def _renewed(self, client: UpnpClient) -> Granted | Lost:
        try:
            return Granted(await client.renew())
        except MappingError as error:
            return Lost(f"the gateway did not renew it: {error}")

    @asynccontextmanager
    async def _claim(self) -> AsyncIterator[None]:
        """One protocol asks for its mapping at a time."""
        async with self._turn:
            if self._winner is not None:
                raise MappingError(_TOO_LATE)
            yield

    async def _prefer_others(self, method: MappingMethod) -> None:
        """Waits for the protocols that are better, but not long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                for other in self._methods[: self._methods.index(method)]:
                    await self._settled[other].wait()

    def _take(self, event: Event, attempt: MappingAttempt) -> None:
        """What became of the mapping of one protocol. MappingError when there is none, or none any more."""
        now = self._loop.time()
        if isinstance(event, Lost | Refused):
            if self._winner is attempt.method:
                self._lose()
            raise MappingError(event.reason)
        assert isinstance(event, Granted)
        if self._winner not in (None, attempt.method):
            raise MappingError(_TOO_LATE)
        changed = attempt.mapping is None or attempt.mapping.external != event.mapping.external
        if self._winner is None:
            self._winner, self._pause = attempt.method, _FIRST_PAUSE
            for method, task in self._running.items():
                if method is not attempt.method:
                    task.cancel()
        attempt.settle(event.mapping, now)
        if changed:
            self._tell(attempt)
            self._on_mapping(event.mapping)

    def _lose(self) -> None:
        self._on_mapping(None)
        self._restart = self._loop.call_later(self._pause, self.start)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _fail(self, attempt: MappingAttempt, reason: str) -> None:
        attempt.settle(reason, self._loop.time())
        self._tell(attempt)

    def _tell(self, attempt: MappingAttempt) -> None:
        if self._on_attempt is not None:
            self._on_attempt(attempt)
