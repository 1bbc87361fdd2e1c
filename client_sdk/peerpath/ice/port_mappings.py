"""PortMappings: one port mapping for each place of an endpoint, and what may become a candidate of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address

from stunwire import TransportAddress

from peerpath.ice.outputs import Output
from peerpath.ice.servers import ServerReport
from peerpath.ice.stack import IceStack
from peerpath.portmap.gateways import FindGateway
from peerpath.portmap.mapper import MappingAttempt, PortMapper
from peerpath.portmap.mapping import Mapping

_LOOK = 0.05
_STUN_SECONDS = 1.0
"""How long a mapping waits to be compared with what the STUN servers saw."""


class PortMappings:
    """Asks in the background: nothing waits for it but the end of gathering, for a second at most."""

    def __init__(
        self,
        stack: IceStack,
        do: Callable[[Sequence[Output]], None],
        find_gateway: FindGateway,
        seen_by_tcp: Callable[[str], list[TransportAddress] | None],
    ) -> None:
        """`seen_by_tcp` tells how servers see connections from an address, None while they are asked."""
        self._stack = stack
        self._do = do
        self._find_gateway = find_gateway
        self._seen_by_tcp = seen_by_tcp
        self._loop = asyncio.get_running_loop()
        self._mappers: dict[tuple[TransportAddress, str], _Base] = {}

    def begin(self, base: TransportAddress) -> None:
        """There is a socket at `base`."""
        gatherer = self._stack.gatherer
        self._begin(_Base(self._stack, self._do, base, "udp", lambda: gatherer.seen_as(base)))

    def begin_tcp(self, base: TransportAddress, preference: int) -> None:
        """Connections are taken at `base`."""
        seen = partial(self._seen_by_tcp, base.host)
        self._begin(_Base(self._stack, self._do, base, "tcp", seen, preference))

    def _begin(self, made: _Base) -> None:
        base = made.base
        if ip_address(base.host.partition("%")[0]).is_link_local:
            return
        gateway = self._find_gateway(base.host)
        if gateway is None:
            now = self._loop.time()
            report = self._stack.gatherer.expect_mapping("port mapping", base, now, made.transport)
            reason = "this address has no default gateway to ask"
            self._do(self._stack.settle_mapping(report, reason, now))
            return
        made.mapper = PortMapper(
            base, gateway, made.mapped, on_attempt=made.attempted, transport=made.transport
        )
        self._mappers[base, made.transport] = made
        made.mapper.start()
        made.expect()

    def end(self, base: TransportAddress) -> list[asyncio.Task[None]]:
        """The socket is gone: gives its mapping back, in a task that is returned."""
        return self._end([(base, "udp")])

    def end_tcp(self, host: str) -> list[asyncio.Task[None]]:
        """The address is gone from this machine."""
        return self._end([place for place in self._mappers if (place[0].host, place[1]) == (host, "tcp")])

    def _end(self, places: list[tuple[TransportAddress, str]]) -> list[asyncio.Task[None]]:
        gone = [self._mappers.pop(place) for place in places if place in self._mappers]
        return [asyncio.ensure_future(each.close()) for each in gone]

    async def close(self) -> None:
        """Gives all mappings back."""
        mappers, self._mappers = list(self._mappers.values()), {}
        await asyncio.gather(*(each.close() for each in mappers))


class _Base:
    """One socket, or with "tcp" one place where connections are taken."""

    mapper: PortMapper

    def __init__(
        self,
        stack: IceStack,
        do: Callable[[Sequence[Output]], None],
        base: TransportAddress,
        transport: str,
        seen: Callable[[], list[TransportAddress] | None],
        preference: int = 0,
    ) -> None:
        self.base = base
        self.transport = transport
        self._stack = stack
        self._do = do
        self._seen = seen
        self._preference = preference
        self._loop = asyncio.get_running_loop()
        self._reports: dict[int, ServerReport] = {}
        self._granted: ServerReport | None = None
        """Of the protocol that the mapping is from."""
        self._offered: TransportAddress | None = None
        self._offering: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """The attempts of a race begin."""
        for attempt in self.mapper.attempts:
            self._report_of(attempt)

    def _report_of(self, attempt: MappingAttempt) -> ServerReport:
        report = self._reports.get(id(attempt))
        if report is None:
            name = f"{attempt.method.spoken} at {attempt.gateway}"
            report = self._stack.gatherer.expect_mapping(name, self.base, attempt.begun_at, self.transport)
            self._reports[id(attempt)] = report
        return report

    def attempted(self, attempt: MappingAttempt) -> None:
        """One protocol has come to an end. What is granted is offered in `mapped`."""
        report = self._report_of(attempt)
        if attempt.mapping is None:
            self._do(self._stack.settle_mapping(report, attempt.reason, self._loop.time()))
        else:
            self._granted = report

    def mapped(self, mapping: Mapping | None) -> None:
        self._cancel()
        if self._offered is not None:
            self._stack.remove_mapping(self.base, self._offered)
            self._offered = None
        if mapping is not None and self._granted is not None:
            self._offering = self._loop.create_task(self._offer(mapping, self._granted))

    async def _offer(self, mapping: Mapping, report: ServerReport) -> None:
        """Unless there is another NAT behind the gateway's own: then STUN servers see another address."""
        seen = await self._seen_by_stun()
        public = [address for address in seen if ip_address(address.host).is_global]
        now = self._loop.time()
        if public and all(address.host != mapping.external.host for address in public):
            reason = (
                f"its outer address is {mapping.external.host}, but STUN servers see {public[0].host}:"
                " another NAT is in front of it"
            )
            self._do(self._stack.settle_mapping(report, reason, now))
            return
        self._offered = mapping.external
        if self.transport == "tcp":
            self._do(self._stack.add_tcp_mapping(report, mapping.external, self._preference, now))
        else:
            self._do(self._stack.add_mapping(report, mapping.external, now))

    async def _seen_by_stun(self) -> list[TransportAddress]:
        deadline = self._loop.time() + _STUN_SECONDS
        while (seen := self._seen()) is None:
            if self._loop.time() >= deadline:
                return []
            await asyncio.sleep(_LOOK)
        return seen

    def _cancel(self) -> None:
        if self._offering is not None:
            self._offering.cancel()

    async def close(self) -> None:
        self._cancel()
        await self.mapper.close()
