"""The HTTP side put together from its parts: which features are served, and what each is given."""

import asyncio
import socket
import time
from collections.abc import Iterable, Iterator

from turnrelay import __version__
from turnrelay.observe.metrics import CONTENT_TYPE
from turnrelay.observe.rendezvous import RendezvousFigures
from turnrelay.operator_side import operator_features
from turnrelay.policy.rate_limits import PrefixRateLimit
from turnrelay.relay_parts import RelayParts
from turnrelay.transports.given_sockets import HTTP, SHARED
from turnrelay.transports.listen_faults import listen_fault
from turnrelay.transports.listeners import ListenError
from turnrelay.web.application import HttpServer, RouteGroup
from turnrelay.web.client_addresses import ClientAddresses
from turnrelay.web.health import Health
from turnrelay.web.openapi import OpenApi
from turnrelay.web.outcomes import Outcomes, Report
from turnrelay.web.rendezvous import HostNames, Rendezvous, RendezvousLimits

_OUTCOME_SLOTS = 4096
_FIRST_REQUEST_SECONDS = 1.0


def private_route_groups(parts: RelayParts) -> Iterator[RouteGroup]:
    """The features for the operator's network alone: not served on a port that TURN shares, one a line."""
    yield Health(parts.readiness, parts.metrics.render, CONTENT_TYPE)


def route_groups(parts: RelayParts) -> Iterator[RouteGroup]:
    """The other features that the settings ask for, one a line."""
    yield _outcomes(parts)
    if parts.settings.rendezvous == "on":
        yield _rendezvous(parts)
    yield OpenApi(__version__)
    yield from operator_features(parts)


def _outcomes(parts: RelayParts) -> Outcomes:
    limits, traversal = parts.settings.limits, parts.metrics.traversal
    traversal.watch(lambda: parts.outcome_tokens.minted, [report.value for report in Report])
    return Outcomes(
        parts.outcome_tokens,
        PrefixRateLimit(
            limits.outcomes_per_prefix_per_second, limits.outcomes_per_prefix_burst, slots=_OUTCOME_SLOTS
        ),
        ClientAddresses(parts.settings.trusted_proxy),
        traversal.record,
        lambda report: traversal.count_report(report.value),
        time.monotonic,
        time.time,
    )


def _rendezvous(parts: RelayParts) -> Rendezvous:
    settings, limits = parts.settings, parts.settings.limits
    names = [*settings.rendezvous_host, *(external.public for external in settings.external_ip)]

    def of_certificate() -> Iterable[str]:
        certificate = parts.certificate()
        return () if certificate is None else (*certificate.names, *certificate.wildcards)

    rendezvous = Rendezvous(
        RendezvousLimits(
            connections_total=limits.rendezvous_connections_total,
            connections_per_prefix=limits.rendezvous_connections_per_prefix,
            messages_per_key_per_second=limits.rendezvous_messages_per_key_per_second,
            messages_per_key_burst=limits.rendezvous_messages_per_key_burst,
            messages_per_prefix_per_second=limits.rendezvous_messages_per_prefix_per_second,
            messages_per_prefix_burst=limits.rendezvous_messages_per_prefix_burst,
        ),
        HostNames(names, of_certificate),
        ClientAddresses(settings.trusted_proxy),
    )
    counts = rendezvous.counts
    parts.metrics.registry.register(
        RendezvousFigures(
            lambda: rendezvous.connections, lambda: rendezvous.keys, counts.messages, counts.refusals
        )
    )
    return rendezvous


class HttpSide:
    """The features, on a listener of their own and on the ports that they share with TURN."""

    def __init__(self, parts: RelayParts) -> None:
        self._parts = parts
        self._public = list(route_groups(parts))
        self._own: HttpServer | None = None
        self._shared: HttpServer | None = None
        self._tunnels: list[RouteGroup] = []

    @property
    def port(self) -> int | None:
        """Of the listener of its own."""
        return None if self._own is None else self._own.port

    @property
    def authority(self) -> str | None:
        """Host and port of that listener, as they stand in a URL."""
        return None if self._own is None else self._own.authority

    @property
    def routes(self) -> set[tuple[str, str]]:
        """Method and path of everything that is served."""
        servers = [server for server in (self._own, self._shared) if server is not None]
        return {route for server in servers for route in server.routes}

    async def open(self) -> None:
        """Starts listening; ListenError names what is in the way."""
        address = self._parts.settings.http
        if address is not None:
            self._own = HttpServer([*private_route_groups(self._parts), *self._public, *self._tunnel()])
            try:
                given = self._parts.given.take(HTTP, address.host, address.port)
                await self._own.open(address.host, address.port, given)
            except OSError as error:
                choose = "--http ADDR:PORT, or --http off"
                raise ListenError(listen_fault(error, address.host, address.port, choose)) from error
        if self._parts.settings.shared:
            await self._open_shared()

    async def _open_shared(self) -> None:
        self._shared = HttpServer([*self._public, *self._tunnel(on_shared_port=True)])
        make_http = await self._shared.protocol_factory()
        for address in self._parts.settings.shared:
            try:
                given = self._parts.given.take(SHARED, address.host, address.port)
                self._parts.listeners.over_http.share(address.host, address.port, make_http, given)
            except OSError as error:
                choose = "--shared ADDR:PORT"
                raise ListenError(listen_fault(error, address.host, address.port, choose)) from error

    def _tunnel(self, *, on_shared_port: bool = False) -> list[RouteGroup]:
        """Each server has its own: on a shared port connections are counted when they are accepted."""
        if self._parts.settings.tunnel == "off":
            return []
        clients = ClientAddresses(self._parts.settings.trusted_proxy)
        tunnel = self._parts.listeners.over_http.tunnel(clients.of, on_shared_port=on_shared_port)
        self._tunnels.append(tunnel)
        return [tunnel]

    @property
    def sock(self) -> socket.socket | None:
        """What the listener of its own listens on."""
        return None if self._own is None else self._own.sock

    async def stop_listening(self) -> None:
        """Accepts nobody any more. Tunnels stay until they end. Every other connection ends when it has had
        the time for its first request, as its client finds the relay again at once."""
        servers = [server for server in (self._own, self._shared) if server is not None]
        for server in servers:
            await server.stop_listening()
        for group in self._public:
            await group.close()
        await asyncio.sleep(_FIRST_REQUEST_SECONDS)
        for server in servers:
            server.close_idle()

    async def close(self) -> None:
        """Ends every feature, then every connection."""
        for group in (*self._public, *self._tunnels):
            await group.close()
        for server in (self._own, self._shared):
            if server is not None:
                await server.close()


async def open_http(parts: RelayParts) -> HttpSide | None:
    """The listening HTTP side, None where the settings want none; ListenError names what is in the way."""
    if parts.settings.http is None and not parts.settings.shared:
        return None
    side = HttpSide(parts)
    try:
        await side.open()
    except ListenError:
        await side.close()
        raise
    return side
