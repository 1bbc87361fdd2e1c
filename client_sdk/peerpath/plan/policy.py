"""Policy: what the settings allow, and what they provide for."""

from __future__ import annotations

from dataclasses import dataclass, field

from peerpath.fallbacks import USUAL_FALLBACKS, Fallback
from peerpath.punch.limits import PunchLimits
from peerpath.settings import Settings
from peerpath.turn.carriers import meets_tcp_peers, parse_relay_uri


@dataclass(frozen=True, slots=True)
class Policy:
    """`fallbacks` in the order in which they are wanted; the `has_` fields say which there is means for."""

    automatic: bool = True
    relay_only: bool = False
    port_mapping: bool = True
    fallbacks: tuple[Fallback, ...] = USUAL_FALLBACKS
    has_turn: bool = False
    has_tunnel: bool = False
    has_proxy: bool = False
    has_onion: bool = False
    is_trusted: bool = True
    """Whether the peer may learn addresses of this machine; if not, it is as with `relay_only`."""
    has_tcp_relay: bool = False
    """Whether a TURN server is reached over TCP or TLS; whether it relays TCP is known when it is asked."""
    onion_only: bool = False
    tcp: bool = True
    punching: PunchLimits = field(default_factory=PunchLimits)
    """What a hard NAT may cost; the peer's limits are taken for the same until it has told its own."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        has_turn: bool = False,
        has_tunnel: bool = False,
        has_proxy: bool = False,
        has_onion: bool = False,
        is_trusted: bool = True,
    ) -> Policy:
        return cls(
            settings.automatic,
            settings.relay_only,
            settings.port_mapping,
            settings.fallbacks,
            has_turn,
            has_tunnel,
            has_proxy,
            has_onion,
            is_trusted,
            any(meets_tcp_peers(parse_relay_uri(server.uri)) for server in settings.turn_servers),
            settings.onion_only,
            settings.tcp,
            PunchLimits(settings.punch_rate, settings.punch_sockets, settings.punch_probes),
        )

    def has(self, fallback: Fallback) -> bool:
        return {
            Fallback.TURN: self.has_turn,
            Fallback.TCP_RELAY: self.has_tcp_relay,
            Fallback.HTTP_TUNNEL: self.has_tunnel,
            Fallback.PROXY: self.has_proxy,
            Fallback.ONION: self.has_onion,
        }[fallback]
