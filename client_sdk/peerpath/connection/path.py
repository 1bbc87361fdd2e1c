"""Path: how the packets of a connection travel, in the words of an application."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from peerpath.ice.candidate import CandidateType, Technique
from peerpath.ice.outputs import Path as IcePath


class PathKind(StrEnum):
    """What it took to get through; RELAY, TCP_RELAY, TUNNEL and ONION pass a third party."""

    HOST = "host"
    SRFLX = "srflx"
    PRFLX = "prflx"
    PORTMAP = "portmap"
    PREDICTED = "predicted"
    TCP = "tcp"
    RELAY = "relay"
    TCP_RELAY = "tcp_relay"
    """A relay that meets the peer over TCP (RFC 6062)."""
    TUNNEL = "tunnel"
    ONION = "onion"

    @property
    def is_direct(self) -> bool:
        """Whether packets go to the peer itself."""
        return self not in (PathKind.RELAY, PathKind.TCP_RELAY, PathKind.TUNNEL, PathKind.ONION)


@dataclass(frozen=True, slots=True)
class Path:
    """`transport` is for people ("udp", "turn-tls", ...); `rtt` in seconds, as measured when it was chosen.

    The addresses are kept out of `repr`, and so out of logs.
    """

    kind: PathKind
    transport: str
    rtt: float | None
    local: str = field(default="", repr=False)
    remote: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PathEvent:
    """Packets take `path` from now on; None while there is none. `reason` says why it changed."""

    path: Path | None
    reason: str = ""
    is_silent: bool = False
    """Nothing has come back for some seconds: the peer may be gone, or another path is about to be found.
    It stays so over changes of path, until something is heard."""


_KINDS = {
    CandidateType.HOST: PathKind.HOST,
    CandidateType.SERVER_REFLEXIVE: PathKind.SRFLX,
    CandidateType.PEER_REFLEXIVE: PathKind.PRFLX,
}


_TECHNIQUES = {
    Technique.PORT_MAPPING: PathKind.PORTMAP,
    Technique.PREDICTION: PathKind.PREDICTED,
    Technique.BIRTHDAY: PathKind.PREDICTED,
}


def path_from_ice(
    path: IcePath, transport: str | None = None, *, kind: PathKind | None = None, rtt: float | None = None
) -> Path:
    """What the path that ICE selected is to an application.

    ICE does not know how a relay is reached: `transport` and `kind` say so where whoever gathered it knows
    better, `rtt` where there is a newer measurement.
    """
    if kind is None:
        if path.is_relayed:
            kind = PathKind.TCP_RELAY if path.local.candidate.is_tcp else PathKind.RELAY
        elif path.local.candidate.transport == "tcp":
            kind = PathKind.TCP
        elif path.local.technique in _TECHNIQUES:
            kind = _TECHNIQUES[path.local.technique]
        else:
            # A socket's own address reaches what a NAT maps for the peer: then the peer's kind says more.
            side = path.remote.type if path.local.type is CandidateType.HOST else path.local.type
            kind = _KINDS[side]
    if transport is None:
        transport = path.local.candidate.transport
    return Path(
        kind,
        transport,
        path.rtt if rtt is None else rtt,
        local=f"{path.local.base.host} {path.local.base.port}",
        remote=f"{path.remote.address.host} {path.remote.address.port}",
    )
