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
    """Since the beginning; where it has failed, until then."""
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
        return [finding.failure for finding in self.findings() if finding.failure is not None]

    def findings(self) -> list[Finding]:
        """What became of each server, candidate, pair and fallback."""
        findings = [_of_server(server, self.seconds) for server in self.servers]
        findings += map(_of_candidate, self.candidates)
        if self.punch is not None:
            punch = self.punch
            findings.append(Finding(f"  {punch}", ("punch", punch.technique, punch.part, punch.result)))
        findings += [_of_pair(pair, self.seconds) for pair in self.pairs]
        findings += [_of_fallback(fallback, self.seconds) for fallback in self.fallbacks]
        return findings

    @property
    def headline(self) -> str:
        return f"{self.state} after {self.seconds:.2f} s" + (f": {self.reason}" if self.reason else "")

    def __str__(self) -> str:
        return "\n".join([self.headline, *(finding.text for finding in self.findings())])


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report, and what it is in the short form of TraversalError, if it is a failure."""

    text: str
    essence: tuple[str, ...]
    """What it says, without the ports and times of one session: in another one it would be nothing new."""
    failure: ServerFailure | None = None


def _of_server(entry: ServerEntry, so_far: float) -> Finding:
    took = "" if entry.seconds is None else f" in {entry.seconds:.3f} s"
    name = entry.server + (f" through {entry.proxy}" if entry.proxy else "")
    failure = None
    if entry.reason:
        failure = ServerFailure(f"{entry.server} ({entry.inquiry})", entry.reason, entry.seconds or so_far)
    asked = (entry.server, entry.inquiry, entry.transport, entry.proxy, _host(entry.base))
    return Finding(
        f"  {name}, {entry.inquiry}: {entry.result or entry.reason}{took}",
        ("server", *asked, _host(entry.result), entry.reason),
        failure,
    )


def _of_candidate(entry: CandidateEntry) -> Finding:
    refused = f", not used: {entry.refused}" if entry.refused else ""
    return Finding(
        f"  {entry.side} {entry.type} {entry.address} at {entry.at:.3f} s{refused}",
        ("candidate", entry.side, entry.type, _host(entry.address), entry.server, entry.refused),
    )


def _of_pair(entry: PairEntry, so_far: float) -> Finding:
    name = f"{entry.local_type} {entry.local} to {entry.remote_type} {entry.remote}"
    reason = entry.reason or f"{entry.state} after {entry.checks_sent} checks"
    ends = (entry.local_type, _host(entry.local), entry.remote_type, _host(entry.remote))
    return Finding(
        f"{'*' if entry.selected else ' '} {name}: {entry.state}"
        + (", nominated" if entry.nominated else "")
        + (f", round trip {entry.rtt * 1000:.1f} ms" if entry.rtt is not None else "")
        + (f", {entry.reason}" if entry.reason else ""),
        ("pair", *ends, entry.way, entry.state, entry.reason),
        ServerFailure(name, reason, so_far - entry.at),
    )


def _of_fallback(entry: FallbackEntry, so_far: float) -> Finding:
    failure = None
    if not entry.tried:
        failure = ServerFailure(f"fallback {entry.fallback}", f"not tried: {entry.reason}", so_far)
    return Finding(
        f"  fallback {entry.fallback}: {'' if entry.tried else 'not tried, '}{entry.reason}",
        ("fallback", entry.fallback, entry.reason),
        failure,
    )


def _host(address: str) -> str:
    """Of "host:port" or "[host]:port"."""
    return address.rpartition(":")[0]


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
    "Finding",
    "IceReport",
    "PairEntry",
    "PunchEntry",
    "ServerEntry",
    "pair_entries",
    "server_entries",
]
