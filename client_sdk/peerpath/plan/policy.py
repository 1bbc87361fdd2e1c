"""Policy: what the settings allow, and what they provide for."""

from __future__ import annotations

from dataclasses import dataclass

from peerpath.settings import Fallback, Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """`fallbacks` in the order in which they are wanted; the `has_` fields say which there is means for."""

    automatic: bool = True
    relay_only: bool = False
    port_mapping: bool = True
    fallbacks: tuple[Fallback, ...] = tuple(Fallback)
    has_turn: bool = False
    has_tunnel: bool = False
    has_proxy: bool = False
    has_onion: bool = False
    is_trusted: bool = True
    """Whether the peer may learn addresses of this machine; if not, it is as with `relay_only`."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
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
            bool(settings.turn_servers),
            has_tunnel,
            has_proxy,
            has_onion,
            is_trusted,
        )

    def has(self, fallback: Fallback) -> bool:
        return {
            Fallback.TURN: self.has_turn,
            Fallback.HTTP_TUNNEL: self.has_tunnel,
            Fallback.PROXY: self.has_proxy,
            Fallback.ONION: self.has_onion,
        }[fallback]
