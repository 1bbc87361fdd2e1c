"""An endpoint as the settings of an application or its user want it."""

from __future__ import annotations

from typing import Any

from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.options import AgentOptions
from peerpath.ice.role import Role
from peerpath.portmap.gateways import find_gateway
from peerpath.punch.limits import PunchLimits
from peerpath.settings import Fallback, Settings


def servers_from(settings: Settings) -> list[IceServer]:
    """The servers to gather from: none if traversal is not automatic, STUN ones only where they are of use.

    TURN servers come in their order, and not at all where `fallbacks` leaves TURN out. Backup STUN servers
    are asked with the primary ones: gathering waits for nobody, so a dead server costs nothing.
    """
    if not settings.automatic:
        return []
    stun = [*settings.primary_servers, *settings.backup_stun_servers]
    servers = [] if settings.relay_only else [IceServer(str(s)) for s in stun if s.transport == "udp"]
    if Fallback.TURN in settings.fallbacks:
        servers += [
            IceServer(turn.uri, turn.username, turn.password.get_secret_value())
            for turn in settings.turn_servers
        ]
    return servers


def endpoint_from(role: Role, settings: Settings, **more: Any) -> IceEndpoint:
    """An IceEndpoint with the servers, ports, times and privacy of `settings`; `more` goes to it as it is."""
    options = AgentOptions(relay_only=settings.relay_only, keepalive_interval=settings.keepalive_interval)
    gateways = find_gateway if settings.automatic and settings.port_mapping else None
    punching = PunchLimits(settings.punch_rate, settings.punch_sockets, settings.punch_probes)
    return IceEndpoint(
        role,
        servers_from(settings),
        options=options,
        ports=settings.local_ports,
        patience=settings.candidate_timeout,
        **{"gateways": gateways, "punching": punching, **more},
    )
