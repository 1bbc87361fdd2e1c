"""OutcomeReporter: tells a relay's operator how a call went, if the application wants that.

The record (stunwire.TraversalOutcome) has classes and a duration: no addresses, no keys, no names.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp
from stunwire import MethodAttempt, NatClass, Outcome, PathFamily, TraversalMethod, TraversalOutcome

from peerpath.calls.paths import relay_kind
from peerpath.connection import Path, PathKind
from peerpath.connection.report import ConnectionReport
from peerpath.ice.candidate import Technique, relay_way
from peerpath.ice.report import IceReport, PairEntry, ServerEntry
from peerpath.ice.servers import SKIPPED, Inquiry
from peerpath.nat.behaviour import NatType

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MAX_WAITING = 16
_log = logging.getLogger("peerpath")

Token = Callable[[], str | Awaitable[str | None] | None]

_KINDS = {
    PathKind.HOST: TraversalMethod.HOST,
    PathKind.SRFLX: TraversalMethod.SRFLX,
    PathKind.PRFLX: TraversalMethod.PRFLX,
    PathKind.PORTMAP: TraversalMethod.PORTMAP,
    PathKind.PREDICTED: TraversalMethod.PREDICTED,
    PathKind.TCP: TraversalMethod.TCP,
    PathKind.TCP_RELAY: TraversalMethod.TCP_RELAY,
    PathKind.TUNNEL: TraversalMethod.HTTP,
    PathKind.ONION: TraversalMethod.ONION,
}
_ALLOCATIONS = (Inquiry.ALLOCATION, Inquiry.TCP_ALLOCATION)
_TECHNIQUES = {
    Technique.PORT_MAPPING: TraversalMethod.PORTMAP,
    Technique.PREDICTION: TraversalMethod.PREDICTED,
    Technique.BIRTHDAY: TraversalMethod.PREDICTED,
}
_RELAYS = {
    "turn-udp": TraversalMethod.RELAY_UDP,
    "turn-tcp": TraversalMethod.RELAY_TCP,
    "turn-tls": TraversalMethod.RELAY_TLS,
    "turn-dtls": TraversalMethod.RELAY_DTLS,
}


class OutcomeReporter:
    """Posts one record for each call that this side has dialed.

        OutcomeReporter("https://relay.example.org/v1/outcomes", token=lambda: credentials.outcome_token)

    `token` gives the single-use token that came with a credential, or None: nothing is sent then. A report
    that does not get through is forgotten: it is not worth anybody's waiting.
    """

    def __init__(self, url: str, token: Token) -> None:
        self.url = url
        self._token = token
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, record: TraversalOutcome) -> None:
        """Sends it in the background."""
        if len(self._tasks) >= _MAX_WAITING:
            return
        task = asyncio.get_running_loop().create_task(self._post(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Waits a moment for what is under way."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=2)
            for task in late:
                task.cancel()

    async def _post(self, record: TraversalOutcome) -> None:
        try:
            token = self._token()
            if inspect.isawaitable(token):
                token = await token
        except Exception as error:
            _log.error("the outcome is not reported, its token failed: %s", error, exc_info=error)
            return
        if not token:
            return
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
                session.post(self.url, data=record.as_json(), headers=headers) as response,
            ):
                if response.status >= 300:
                    _log.info("the outcome was not taken: HTTP %d", response.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.info("the outcome could not be reported: %s", error)


def outcome_record(
    outcome: Outcome,
    path: Path | None,
    report: ConnectionReport,
    seconds: float,
    nat: NatType,
    peer_nat: NatType,
) -> TraversalOutcome:
    """What is to be said about one call."""
    if outcome is Outcome.CONNECTED and path is None:
        outcome = Outcome.CANCELLED  # connected, and gone by now: that counts for no method
    connected = outcome is Outcome.CONNECTED
    method, family = TraversalMethod.NONE, PathFamily.NONE
    if connected and path is not None:
        method = method_of(path)
        family = PathFamily.NONE if method is TraversalMethod.ONION else _family(path.local)
    tried = {(entry.method, entry.family): entry for entry in _attempts(report)}
    if connected:
        tried[method, family] = MethodAttempt(method, Outcome.CONNECTED, family)
    elif outcome is Outcome.FAILED:
        tried = {key: MethodAttempt(*key[:1], Outcome.FAILED, key[1]) for key in tried}
    return TraversalOutcome(
        outcome=outcome,
        method=method,
        family=family,
        duration_ms=min(int(seconds * 1000), 3_600_000),
        nat=NatClass.of_nat_type(nat.value),
        peer_nat=NatClass.of_nat_type(peer_nat.value),
        attempts=tuple(tried.values()),
    )


def method_of(path: Path) -> TraversalMethod:
    return _method(path.kind, path.transport)


def _method(kind: PathKind, way: str) -> TraversalMethod:
    if way.endswith(("-http", "-socks5")):
        return TraversalMethod.PROXY
    if kind is PathKind.RELAY:
        return _RELAYS.get(way, TraversalMethod.RELAY_UDP)
    return _KINDS[kind]


def _method_of_pair(pair: PairEntry) -> TraversalMethod:
    """What the method of its path would be."""
    if pair.local_type == "relay":
        return _method(relay_kind(pair.way), pair.way)
    if pair.remote_type == "relay":
        return TraversalMethod.TCP_RELAY if pair.way == "tcp" else TraversalMethod.RELAY_UDP
    if pair.way == "tcp":
        return TraversalMethod.TCP
    if pair.technique in _TECHNIQUES:
        return _TECHNIQUES[Technique(pair.technique)]
    return _KINDS[PathKind(pair.remote_type if pair.local_type == "host" else pair.local_type)]


def _attempts(report: ConnectionReport) -> Iterable[MethodAttempt]:
    """By method and family: connected if it once was, else what it came to first."""
    found: dict[tuple[TraversalMethod, PathFamily], Outcome] = {}
    for attempt in report.attempts:
        for route in attempt.routes:
            for method, family, outcome in _tried(route.ice):
                key = (method, PathFamily.NONE if method is TraversalMethod.ONION else family)
                if outcome is Outcome.CONNECTED or key not in found:
                    found[key] = outcome
    return [MethodAttempt(method, outcome, family) for (method, family), outcome in found.items()]


def _tried(ice: IceReport) -> Iterable[tuple[TraversalMethod, PathFamily, Outcome]]:
    for pair in ice.pairs:
        yield _method_of_pair(pair), _family(pair.local), _outcome(pair.state)
    for server in ice.servers:
        # What was not mapped, or not hit, made no pair that would tell.
        if server.inquiry == Inquiry.PORT_MAPPING and server.reason:
            outcome = Outcome.CANCELLED if server.seconds is None else Outcome.FAILED
            yield TraversalMethod.PORTMAP, _family(server.base), outcome
        elif server.inquiry in _ALLOCATIONS and server.reason and not _was_skipped(server):
            # A relay that gives no address makes no pair either.
            way = relay_way(server.transport, server.proxy, to_tcp=server.inquiry == Inquiry.TCP_ALLOCATION)
            outcome = Outcome.CANCELLED if server.seconds is None else Outcome.FAILED
            yield _method(relay_kind(way), way), PathFamily.NONE, outcome
    if ice.punch is not None and ice.punch.part:
        outcome = Outcome.CANCELLED if ice.punch.result in ("running", "connected") else Outcome.FAILED
        yield TraversalMethod.PREDICTED, PathFamily.IPV4, outcome


def _was_skipped(server: ServerEntry) -> bool:
    return server.reason.startswith(SKIPPED)


def _outcome(state: Any) -> Outcome:
    return {"succeeded": Outcome.CONNECTED, "failed": Outcome.FAILED}.get(str(state), Outcome.CANCELLED)


def _family(address: str) -> PathFamily:
    """Of "192.0.2.1 5000" and "192.0.2.1:5000", "2001:db8::1 5000" and "[2001:db8::1]:5000"."""
    if not address:
        return PathFamily.NONE
    return PathFamily.IPV6 if address.count(":") > 1 else PathFamily.IPV4
