"""What a path of ICE is to an application: with the way to this side's relay, which its candidate knows."""

from __future__ import annotations

from peerpath.connection import Path, PathKind, path_from_ice
from peerpath.ice.candidate import CandidateType, meets_tcp
from peerpath.ice.outputs import Path as IcePath
from peerpath.net.proxies import ProxyKind


def application_path(path: IcePath) -> Path:
    """Of a relayed path the transport is that to this side's relay, if it uses one: LocalCandidate.way."""
    if path.local.type is not CandidateType.RELAYED:
        return path_from_ice(path)
    return path_from_ice(path, path.local.way, kind=relay_kind(path.local.way))


def relay_kind(way: str) -> PathKind:
    """Of a path over a relay that is reached in that way."""
    if way.endswith(f"-{ProxyKind.TOR}"):
        return PathKind.ONION
    if meets_tcp(way):
        return PathKind.TCP_RELAY
    return PathKind.TUNNEL if way.startswith("turn-ws") else PathKind.RELAY
