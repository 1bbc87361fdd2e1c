"""What a path of ICE is to an application: with the way to the relay, which ICE leaves to the gathering."""

from __future__ import annotations

from stunwire import TurnUri

from peerpath.connection import Path, path_from_ice
from peerpath.ice.candidate import CandidateType, LocalCandidate
from peerpath.ice.outputs import Path as IcePath


def application_path(path: IcePath) -> Path:
    """Of a relayed path the transport is that to this side's relay, if it uses one: "turn-udp" ..."""
    return path_from_ice(path, _transport(path.local))


def _transport(local: LocalCandidate) -> str | None:
    if local.type is not CandidateType.RELAYED or not local.server.lower().startswith("turn"):
        return None
    uri = TurnUri.parse(local.server)
    if uri.secure:
        return "turn-tls" if uri.transport == "tcp" else "turn-dtls"
    return f"turn-{uri.transport}"
