"""PortMappings: one port mapping for each socket of an endpoint, and what may become a candidate of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
        self, stack: IceStack, do: Callable[[Sequence[Output]], None], find_gateway: FindGateway
    ) -> None:
        self._stack = stack
        self._do = do
        self._find_gateway = find_gateway
        self._loop = asyncio.get_running_loop()
        self._mappers: dict[TransportAddress, _Base] = {}

    def begin(self, base: TransportAddress) -> None:
        """There is a socket at `base`."""
        if ip_address(base.host.partition("%")[0]).is_link_local:
            return
        gateway = self._find_gateway(base.host)
        if gateway is None:
            report = self._stack.gatherer.expect_mapping("port mapping", base, self._loop.time())
            reason = "this address has no default gateway to ask"
            self._do(self._stack.settle_mapping(report, reason, self._loop.time()))
            return
        made = _Base(self._stack, self._do, base)
        made.mapper = PortMapper(base, gateway, made.mapped, on_attempt=made.attempted)
        self._mappers[base] = made
        made.mapper.start()
        made.expect()

    def end(self, base: TransportAddress) -> asyncio.Task[None] | None:
        """The socket is gone: gives the mapping back, in the task that is returned."""
        gone = self._mappers.pop(base, None)
        return None if gone is None else asyncio.ensure_future(gone.close())

    async def close(self) -> None:
        """Gives all mappings back."""
        mappers, self._mappers = list(self._mappers.values()), {}
        await asyncio.gather(*(each.close() for each in mappers))


class _Base:
    """One socket."""

    mapper: PortMapper

    def __init__(
        self, stack: IceStack, do: Callable[[Sequence[Output]], None], base: TransportAddress
    ) -> None:
        self._stack = stack
        self._do = do
        self._base = base
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
            report = self._stack.gatherer.expect_mapping(name, self._base, attempt.begun_at)
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
            self._stack.remove_mapping(self._base, self._offered)
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
        self._do(self._stack.add_mapping(report, mapping.external, now))

    async def _seen_by_stun(self) -> list[TransportAddress]:
        deadline = self._loop.time() + _STUN_SECONDS
        while (seen := self._stack.gatherer.seen_as(self._base)) is None:
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
