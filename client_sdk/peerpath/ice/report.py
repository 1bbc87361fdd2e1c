"""IceReport: every server, candidate and pair, with what became of it and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from peerpath.errors import ServerFailure
from peerpath.ice.candidate import Candidate, LocalCandidate
from peerpath.ice.ladder import FallbackEntry
from peerpath.ice.pair import CandidatePair
from peerpath.ice.servers import ServerReport
from peerpath.net.addresses import join_host_port

_MAX_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class ServerEntry:
    server: str
    inquiry: str
    transport: str
    base: str
    result: str
    """The address that the server gave; empty if it gave none."""
    reason: str
    """Why it gave none; empty if it did."""
    seconds: float | None
    """How long it took; None while it is still waited for."""
    proxy: str = ""
    """The kind of proxy that was asked through: http, socks5 or tor; empty without one."""


@dataclass(frozen=True, slots=True)
class CandidateEntry:
    side: str
    """"local" or "remote"."""
    type: str
    address: str
    server: str
    at: float
    """Seconds since the beginning."""
    refused: str
    """Why it is not used; empty if it is."""


@dataclass(frozen=True, slots=True)
class PairEntry:
    local: str
    local_type: str
    remote: str
    remote_type: str
    state: str
    nominated: bool
    selected: bool
    checks_sent: int
    checks_received: int
    rtt: float | None
    at: float
    """When it was formed, in seconds since the beginning."""
    first_check_at: float | None
    valid_at: float | None
    reason: str
    """Why it failed; empty if it did not."""
    way: str = "udp"
    """Of the local candidate: LocalCandidate.way."""
    technique: str = "none"
    """Of the local candidate."""


@dataclass(frozen=True, slots=True)
class PunchEntry:
    """An attempt at a hard NAT. Times are seconds."""

    part: str
    """"open" or "guess"; empty where nothing was attempted."""
    technique: str
    pattern: str
    sockets: int
    probes_sent: int
    chance: float
    """What the formula foretold."""
    seconds: float
    result: str
    """"running", "connected", "nothing came through", or why nothing was attempted."""

    def __str__(self) -> str:
        if not self.part:
            return f"hard NAT: not attempted, {self.result}"
        return (
            f"hard NAT, {self.technique} ({self.part}, ports {self.pattern}): {self.result},"
            f" {self.probes_sent} packets in {self.seconds:.2f} s, {self.sockets} sockets,"
            f" chance {self.chance:.1%}"
        )


@dataclass(frozen=True, slots=True)
class IceReport:
    """What the agent knows at one moment. It names addresses: show it to the user, keep it out of logs."""

    state: str
    reason: str
    seconds: float
    servers: tuple[ServerEntry, ...]
    candidates: tuple[CandidateEntry, ...]
    pairs: tuple[PairEntry, ...]
    punch: PunchEntry | None = None
    """The last attempt at a hard NAT, if there was one."""
    fallbacks: tuple[FallbackEntry, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def failures(self) -> list[ServerFailure]:
        """For TraversalError: the servers that gave nothing, and the pairs that did not work."""
        failures = [
            ServerFailure(f"{entry.server} ({entry.inquiry})", entry.reason, entry.seconds or self.seconds)
            for entry in self.servers
            if entry.reason
        ]
        for pair in self.pairs:
            reason = pair.reason or f"{pair.state} after {pair.checks_sent} checks"
            name = f"{pair.local_type} {pair.local} to {pair.remote_type} {pair.remote}"
            failures.append(ServerFailure(name, reason, self.seconds - pair.at))
        failures += [
            ServerFailure(f"fallback {entry.fallback}", f"not tried: {entry.reason}", self.seconds)
            for entry in self.fallbacks
            if not entry.tried
        ]
        return failures

    def __str__(self) -> str:
        lines = [f"{self.state} after {self.seconds:.2f} s" + (f": {self.reason}" if self.reason else "")]
        for server in self.servers:
            took = "" if server.seconds is None else f" in {server.seconds:.3f} s"
            name = server.server + (f" through {server.proxy}" if server.proxy else "")
            lines.append(f"  {name}, {server.inquiry}: {server.result or server.reason}{took}")
        for candidate in self.candidates:
            refused = f", not used: {candidate.refused}" if candidate.refused else ""
            lines.append(
                f"  {candidate.side} {candidate.type} {candidate.address} at {candidate.at:.3f} s{refused}"
            )
        if self.punch is not None:
            lines.append(f"  {self.punch}")
        for pair in self.pairs:
            mark = "*" if pair.selected else " "
            lines.append(
                f"{mark} {pair.local_type} {pair.local} to {pair.remote_type} {pair.remote}: {pair.state}"
                + (", nominated" if pair.nominated else "")
                + (f", round trip {pair.rtt * 1000:.1f} ms" if pair.rtt is not None else "")
                + (f", {pair.reason}" if pair.reason else "")
            )
        for fallback in self.fallbacks:
            tried = "" if fallback.tried else "not tried, "
            lines.append(f"  fallback {fallback.fallback}: {tried}{fallback.reason}")
        return "\n".join(lines)


class CandidateLog:
    """When which candidate was found, told or refused."""

    def __init__(self) -> None:
        # Bounded: a peer may name candidates for as long as it likes.
        self._entries: deque[tuple[str, Candidate, str, float]] = deque(maxlen=_MAX_ENTRIES)
        self._refused: dict[Candidate, str] = {}

    def found(self, local: LocalCandidate, now: float) -> None:
        self._entries.append(("local", local.candidate, local.server, now))

    def told(self, remote: Candidate, now: float) -> None:
        self._entries.append(("remote", remote, "", now))

    def refused(self, candidate: Candidate, reason: str) -> None:
        if len(self._refused) < _MAX_ENTRIES:
            self._refused[candidate] = reason

    def entries(self, began: float) -> tuple[CandidateEntry, ...]:
        return tuple(
            CandidateEntry(
                side,
                candidate.type.value,
                join_host_port(candidate.address),
                server,
                at - began,
                self._refused.get(candidate, ""),
            )
            for side, candidate, server, at in self._entries
        )


def server_entries(reports: Sequence[ServerReport]) -> tuple[ServerEntry, ...]:
    return tuple(
        ServerEntry(
            report.server,
            report.inquiry.value,
            report.transport,
            "" if report.base is None else join_host_port(report.base),
            "" if report.result is None else join_host_port(report.result),
            report.reason,
            report.seconds,
            report.proxy,
        )
        for report in reports
    )


def pair_entries(
    pairs: Sequence[CandidatePair], selected: CandidatePair | None, began: float
) -> tuple[PairEntry, ...]:
    return tuple(
        PairEntry(
            join_host_port(pair.local.base),
            (pair.valid_local or pair.local).type.value,
            join_host_port(pair.remote.address),
            pair.remote.type.value,
            pair.state.value,
            pair.is_nominated,
            pair is selected,
            pair.checks_sent,
            pair.checks_received,
            pair.rtt,
            pair.created_at - began,
            None if pair.first_check_at is None else pair.first_check_at - began,
            None if pair.valid_at is None else pair.valid_at - began,
            pair.failure,
            pair.local.way,
            (pair.valid_local or pair.local).technique.value,
        )
        for pair in pairs
    )


__all__ = [
    "CandidateEntry",
    "CandidateLog",
    "FallbackEntry",
    "IceReport",
    "PairEntry",
    "PunchEntry",
    "ServerEntry",
    "pair_entries",
    "server_entries",
]
