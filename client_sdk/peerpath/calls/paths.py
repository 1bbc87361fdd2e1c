"""What a path of ICE is to an application: with the way to this side's relay, which its candidate knows."""

from __future__ import annotations

from peerpath.connection import Path, PathKind, path_from_ice
from peerpath.ice.candidate import CandidateType, LocalCandidate
from peerpath.ice.outputs import Path as IcePath
from peerpath.net.proxies import ProxyKind

_TUNNELS = ("ws", "wss")


def application_path(path: IcePath) -> Path:
    """Of a relayed path the transport is that to this side's relay, if it uses one: "turn-udp", "turn-tls",
    "turn-wss" ..., and through a proxy "turn-tls-http", "turn-tls-socks5" or "turn-tls-tor"."""
    if path.local.type is not CandidateType.RELAYED:
        return path_from_ice(path)
    return path_from_ice(path, _transport(path.local), kind=_kind(path.local))


def _transport(local: LocalCandidate) -> str:
    return f"turn-{local.via}" + (f"-{local.proxy}" if local.proxy else "")


def _kind(local: LocalCandidate) -> PathKind:
    if local.proxy == ProxyKind.TOR:
        return PathKind.ONION
    return PathKind.TUNNEL if local.via in _TUNNELS else PathKind.RELAY
