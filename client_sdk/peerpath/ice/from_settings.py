"""An endpoint as the settings of an application or its user want it."""

from __future__ import annotations

from typing import Any

from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.options import AgentOptions
from peerpath.ice.relay_plan import RelayOptions
from peerpath.ice.role import Role
from peerpath.net.proxies import Proxy
from peerpath.portmap.gateways import find_gateway
from peerpath.punch.limits import PunchLimits
from peerpath.settings import Settings


def servers_from(settings: Settings) -> list[IceServer]:
    """The servers to gather from: none if traversal is not automatic, STUN ones only where they are of use.

    TURN servers and tunnels come in their order; which of them are used, and how, `relay_options` says.
    Backup STUN servers are asked with the primary ones: gathering waits for nobody, so a dead server costs
    nothing.
    """
    if not settings.automatic:
        return []
    stun = [*settings.primary_servers, *settings.backup_stun_servers]
    hidden = settings.relay_only or settings.onion_only
    servers = [] if hidden else [IceServer(str(s)) for s in stun if s.transport == "udp"]
    return servers + [
        IceServer(turn.uri, turn.username, turn.password.get_secret_value()) for turn in settings.turn_servers
    ]


def relay_options(settings: Settings, isolation: bytes = b"") -> RelayOptions:
    """The ways to relays. `isolation` is the peer: Tor's circuits are not shared with another one's."""
    return RelayOptions(
        settings.fallbacks,
        settings.proxy_rules(),
        Proxy.tor(settings.tor) if settings.tor else None,
        settings.onion_only,
        isolation,
        automatic=settings.automatic,
    )


def endpoint_from(role: Role, settings: Settings, *, isolation: bytes = b"", **more: Any) -> IceEndpoint:
    """An IceEndpoint with the servers, ports, times and privacy of `settings`; `more` goes to it as it is.

    `isolation` is the peer's key, or whatever names it (see `relay_options`). SettingsError for a proxy in
    the environment that cannot be read.
    """
    options = AgentOptions(relay_only=settings.relay_only, keepalive_interval=settings.keepalive_interval)
    mapping = settings.automatic and settings.port_mapping and not settings.onion_only
    punching = PunchLimits(settings.punch_rate, settings.punch_sockets, settings.punch_probes)
    return IceEndpoint(
        role,
        servers_from(settings),
        options=options,
        ports=settings.local_ports,
        patience=settings.candidate_timeout,
        **{
            "gateways": find_gateway if mapping else None,
            "punching": punching,
            "tcp": settings.tcp and settings.automatic,
            "relaying": relay_options(settings, isolation),
            **more,
        },
    )
