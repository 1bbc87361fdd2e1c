"""Which relays are gone for over streams, by which way out of the network, and in which order. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from peerpath.fallbacks import USUAL_FALLBACKS, Fallback
from peerpath.ice.configuration import IceServer
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_rules import ProxyRules
from peerpath.net.waits import Waits
from peerpath.turn.carriers import meets_tcp_peers


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Which ways to relays there are. Times are seconds."""

    fallbacks: tuple[Fallback, ...] = USUAL_FALLBACKS
    """What to try, in this order; what is left out is not tried."""
    proxies: ProxyRules = field(default_factory=ProxyRules)
    tor: Proxy | None = None
    """Tor's SOCKS port, made by `Proxy.tor`."""
    onion_only: bool = False
    """Nothing leaves but to Tor: no socket, no STUN, no look-up of a name."""
    isolation: bytes = b""
    """Who the peer is: Tor's circuits are not shared between different ones. Empty: never shared."""
    head_start: float = 0.5
    """How long a fallback is given before the next one is tried beside it, unless it failed already."""
    path_patience: float = 3.0
    """How long a relayed address is given to lead to a path to the peer before the next fallback is tried."""
    waits: Waits = field(default_factory=Waits)
    """How long each step on the way to a server may take."""
    patience: float = 15.0
    """How long one server gets to give a relayed address, all in all."""
    onion_patience: float = 60.0
    """The same through Tor, whose circuits take their time; and what each step may take there."""
    automatic: bool = True
    """Whether ways are looked for at all."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One server by one way."""

    server: IceServer
    index: int
    """Its place in the configuration."""
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One fallback: what of it is tried, or why it is not."""

    fallback: Fallback
    attempts: tuple[Attempt, ...] = ()
    has_datagrams: bool = False
    """The gatherer asks servers over UDP for it as well."""
    left_out: str = ""

    @property
    def is_for_tcp(self) -> bool:
        """Whether its relayed addresses meet peers over TCP (RFC 6062)."""
        return self.fallback is Fallback.TCP_RELAY

    @property
    def is_empty(self) -> bool:
        return not self.attempts and not self.has_datagrams


def plan(servers: Sequence[IceServer], options: RelayOptions) -> list[Stage]:
    """All fallbacks, those that are to be tried first and in their order."""
    order = [*options.fallbacks, *(each for each in Fallback if each not in options.fallbacks)]
    return [_stage(fallback, list(_relays(servers)), options) for fallback in order]


def uses_datagrams(options: RelayOptions) -> bool:
    """Whether TURN servers may be asked over UDP."""
    return Fallback.TURN in options.fallbacks and not options.onion_only


def uses_tcp_relays(options: RelayOptions) -> bool:
    """Whether relayed addresses for TCP are gone for."""
    return Fallback.TCP_RELAY in options.fallbacks and not options.onion_only


def _relays(servers: Sequence[IceServer]) -> Iterator[tuple[int, IceServer]]:
    return ((index, server) for index, server in enumerate(servers) if server.is_turn)


def _stage(fallback: Fallback, relays: list[tuple[int, IceServer]], options: RelayOptions) -> Stage:
    if not options.automatic:
        return Stage(fallback, left_out="automatic is off in the settings")
    if fallback not in options.fallbacks:
        return Stage(fallback, left_out="it is left out of the settings")
    if options.onion_only and fallback is not Fallback.ONION:
        return Stage(fallback, left_out="everything goes through Tor (onion_only)")
    streams = [(index, server) for index, server in relays if not server.over_udp]
    if fallback is Fallback.TURN:
        turn = tuple(Attempt(server, index) for index, server in streams if not server.is_tunnel)
        datagrams = any(server.over_udp for _, server in relays)
        left_out = "" if turn or datagrams else "no TURN server is configured"
        return Stage(fallback, turn, datagrams, left_out)
    if fallback is Fallback.TCP_RELAY:
        tcp = tuple(_for_tcp(streams, options))
        left_out = "no TURN server for TCP is configured: turns: or ?transport=tcp is wanted"
        return Stage(fallback, tcp, left_out="" if tcp else left_out)
    if fallback is Fallback.HTTP_TUNNEL:
        tunnels = tuple(Attempt(server, index) for index, server in streams if server.is_tunnel)
        return Stage(fallback, tunnels, left_out="" if tunnels else "no tunnel (wss://) is configured")
    if fallback is Fallback.ONION and options.tor is None:
        return Stage(fallback, left_out="Tor's SOCKS port is not configured")
    if not streams:
        return Stage(fallback, left_out="no server for TCP is configured: turns: or wss:// is wanted")
    if fallback is Fallback.ONION:
        return Stage(fallback, tuple(Attempt(server, index, options.tor) for index, server in streams))
    proxied = tuple(_proxied(streams, options.proxies))
    return Stage(fallback, proxied, left_out="" if proxied else "no proxy is configured for these servers")


def _for_tcp(streams: list[tuple[int, IceServer]], options: RelayOptions) -> Iterator[Attempt]:
    """Directly, and by the proxies where these may be used."""
    able = [(index, server) for index, server in streams if meets_tcp_peers(server.relay_uri)]
    yield from (Attempt(server, index) for index, server in able)
    if Fallback.PROXY in options.fallbacks:
        yield from _proxied(able, options.proxies)


def _proxied(streams: list[tuple[int, IceServer]], proxies: ProxyRules) -> Iterator[Attempt]:
    for index, server in streams:
        uri = server.relay_uri
        proxy = proxies.proxy_for(uri.host, uri.port, secure=uri.secure)
        if proxy is not None:
            yield Attempt(server, index, proxy)
