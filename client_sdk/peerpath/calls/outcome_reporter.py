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

from peerpath.connection import Path
from peerpath.connection.report import ConnectionReport
from peerpath.nat.behaviour import NatType

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MAX_WAITING = 16
_log = logging.getLogger("peerpath")

Token = Callable[[], str | Awaitable[str | None] | None]

_KINDS = {
    "host": TraversalMethod.HOST,
    "srflx": TraversalMethod.SRFLX,
    "prflx": TraversalMethod.PRFLX,
    "portmap": TraversalMethod.PORTMAP,
    "predicted": TraversalMethod.PREDICTED,
    "tcp": TraversalMethod.TCP,
    "tunnel": TraversalMethod.HTTP,
    "onion": TraversalMethod.ONION,
}
_RELAYS = {
    "turn-udp": TraversalMethod.RELAY_UDP,
    "turn-tcp": TraversalMethod.RELAY_TCP,
    "turn-tls": TraversalMethod.RELAY_TLS,
    "turn-dtls": TraversalMethod.RELAY_DTLS,
}
_RANKS = ("host", "srflx", "prflx", "relay")


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
    if path.transport.endswith(("-http", "-socks5")):
        return TraversalMethod.PROXY
    if path.kind == "relay":
        return _RELAYS.get(path.transport, TraversalMethod.RELAY_UDP)
    return _KINDS.get(path.kind, TraversalMethod.HOST)


def _attempts(report: ConnectionReport) -> Iterable[MethodAttempt]:
    """By kind of pair and family: connected if one of them worked, failed if all did not."""
    found: dict[tuple[TraversalMethod, PathFamily], Outcome] = {}
    for attempt in report.attempts:
        for route in attempt.routes:
            for pair in route.ice.pairs:
                kind = max(pair.local_type, pair.remote_type, key=_RANKS.index)
                method = TraversalMethod.RELAY_UDP if kind == "relay" else _KINDS[kind]
                key = (method, _family(pair.local))
                now = _outcome(pair.state)
                if found.get(key) is not Outcome.CONNECTED:
                    found[key] = Outcome.CONNECTED if now is Outcome.CONNECTED else found.get(key, now)
    return [MethodAttempt(method, outcome, family) for (method, family), outcome in found.items()]


def _outcome(state: Any) -> Outcome:
    return {"succeeded": Outcome.CONNECTED, "failed": Outcome.FAILED}.get(str(state), Outcome.CANCELLED)


def _family(address: str) -> PathFamily:
    """Of "192.0.2.1 5000" and "192.0.2.1:5000", "2001:db8::1 5000" and "[2001:db8::1]:5000"."""
    if not address:
        return PathFamily.NONE
    return PathFamily.IPV6 if address.count(":") > 1 else PathFamily.IPV4
