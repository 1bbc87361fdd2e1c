"""Dialer: one connection from the side that dialed, through as many attempts as it takes."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from stunwire import Outcome, TraversalOutcome

from peerpath.calls.attempt import NOBODY_CARRIES
from peerpath.calls.audit import AuditResult
from peerpath.calls.causes import known_cause
from peerpath.calls.dialing_attempt import DialingAttempt, Refused
from peerpath.calls.errors import CallError, CallRefused
from peerpath.calls.kit import CallKit
from peerpath.calls.outcome_reporter import outcome_record
from peerpath.connection import Connection, ConnectionState
from peerpath.errors import PeerpathError
from peerpath.identity import PublicKey
from peerpath.nat.behaviour import NatType
from peerpath.quic import LinkRole
from peerpath.signaling import Dialing, Signaling

OpenChannel = Callable[[], Awaitable[Signaling]]
"""A channel to the peer for one attempt."""

_SESSION_BYTES = 16


class Dialer:
    """`connect` once; the connection is kept alive until it is closed."""

    def __init__(
        self,
        kit: CallKit,
        peer: PublicKey,
        open_channel: OpenChannel,
        forget: Callable[[Dialer], None],
        *,
        relay_only: bool,
        wall: Callable[[], float],
    ) -> None:
        self.connection = Connection(peer, options=kit.connection)
        self.report = self.connection.report
        self.attempt: DialingAttempt | None = None
        self.outcome: Outcome | None = None
        """How the first attempt ended."""
        self.seconds = 0.0
        """How long that took."""
        self._forget = forget
        self._kit = kit
        self._peer = peer
        self._open_channel = open_channel
        self._relay_only = relay_only
        self._wall = wall
        self._session = secrets.token_bytes(_SESSION_BYTES)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._settled = asyncio.Event()
        """`connect` has come to its end."""
        self._keeping: asyncio.Task[None] | None = None

    async def connect(self, within: float) -> Connection:
        """CallRefused or CallError with everything that was tried, within so many seconds."""
        self._began = self._loop.time()
        try:
            async with asyncio.timeout(within):
                await self._try(resume=False)
        except TimeoutError:
            raise await self._failed(f"no connection within {within:g} s", AuditResult.FAILED) from None
        except Refused as refusal:
            result = AuditResult.LIMITED if refusal.later else AuditResult.REFUSED
            raise await self._failed(str(refusal), result) from None
        except PeerpathError as error:
            raise await self._failed(str(error), AuditResult.FAILED) from error
        except asyncio.CancelledError:
            await asyncio.shield(self._failed("cancelled", AuditResult.CANCELLED))
            raise
        except BaseException as error:
            await self._failed(f"{type(error).__name__}: {error}", AuditResult.FAILED)
            raise
        finally:
            self._settled.set()
        self.outcome, self.seconds = Outcome.CONNECTED, self._loop.time() - self._began
        self._audit(AuditResult.CONNECTED)
        self._keeping = self._loop.create_task(self._keep())
        return self.connection

    def record(self, nat: NatType) -> TraversalOutcome:
        """What there is to tell a relay's operator; `nat` is this side's own."""
        assert self.outcome is not None
        peer_nat = NatType.UNKNOWN if self.attempt is None else self.attempt.peer_nat
        return outcome_record(self.outcome, self.connection.path, self.report, self.seconds, nat, peer_nat)

    async def close(self, reason: str = "") -> None:
        """Closes the connection and gives everything back; a `connect` under way fails."""
        if not self._settled.is_set():
            if self.attempt is not None:
                self.attempt.abandon("closed by this side")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), 5)
        await self.connection.close(reason)
        if self._keeping is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._keeping, 5)

    async def _try(self, *, resume: bool) -> None:
        """One attempt, until both sides have proven who they are."""
        report = self.report.begin("dialed", self._loop.time())
        channel = await self._open_channel()
        envelopes = Dialing(self._kit.identity, self._peer, now=self._wall())
        attempt = DialingAttempt(
            self._kit,
            LinkRole.DIALER,
            self._peer,
            channel,
            envelopes,
            self.connection,
            report,
            relay_only=self._relay_only,
        )
        self.attempt = attempt
        await attempt.offer(self._session, resume=resume)
        await attempt.established

    async def _failed(self, reason: str, result: AuditResult) -> CallError:
        cause = ""
        if self.attempt is not None:
            if result is AuditResult.FAILED:
                cause = known_cause(self.attempt.report)
            self.attempt.report.end(reason, self._loop.time())
            self.attempt.say_goodbye("the caller has given up")
        self.connection.fail(reason)  # while there is a path on which the peer can be told
        if self.attempt is not None:
            await self.attempt.close()
        self._audit(result, reason)
        # A refusal says as little of the network as somebody who did not want to wait.
        cancelled = result in (AuditResult.CANCELLED, AuditResult.REFUSED, AuditResult.LIMITED)
        self.outcome, self.seconds = (
            Outcome.CANCELLED if cancelled else Outcome.FAILED,
            self._loop.time() - self._began,
        )
        spoken = f"{reason} (on this side: {cause})" if cause else reason
        return (CallRefused if result is AuditResult.REFUSED else CallError)(spoken, self.report)

    # -- the life of the connection ---------------------------------------------------------------------

    async def _keep(self) -> None:
        """Until the connection is closed: a link that has died is replaced."""
        watching = self._loop.create_task(self._abandon_when_closed())
        try:
            while await self._link_died():
                if not await self._reconnect():
                    break
        finally:
            watching.cancel()
            await self.connection.wait_released()
            if self.attempt is not None:
                await self.attempt.close()
            self._audit(AuditResult.CLOSED, self.connection.close_reason or "")
            self._forget(self)

    async def _abandon_when_closed(self) -> None:
        """Nobody waits for an attempt to reconnect once the application has closed the connection."""
        await self.connection.wait_closed()
        if self.attempt is not None and not self.attempt.established.done():
            self.attempt.abandon("the connection was closed")

    async def _link_died(self) -> bool:
        """Waits for an end: that of the connection (False) or that of its link alone (True)."""
        assert self.attempt is not None
        closed = self._loop.create_task(self.connection.wait_closed())
        try:
            waiting: list[asyncio.Future[Any]] = [closed, self.attempt.ended]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
        return self.connection.state is not ConnectionState.CLOSED

    async def _reconnect(self) -> bool:
        """Attempts with growing pauses. False when the connection is beyond hope."""
        if self.attempt is not None and not self.attempt.trickle:
            self.connection.fail(NOBODY_CARRIES)
            return False
        options = self._kit.options
        until = self._loop.time() + options.reconnect_for
        pause = 0.0
        reason = "the link is gone"
        is_last = False
        while not is_last and (left := until - self._loop.time()) > 0:
            if self.attempt is not None:
                await self.attempt.close()
            if pause >= left:
                # Some of the time is left to the last attempt.
                is_last, pause = True, left / 2
            if await self._closed_within(pause):
                return False
            since = self._loop.time()
            within = max(0.0, min(options.timeout, until - since))
            try:
                async with asyncio.timeout(within):
                    await self._try(resume=True)
            except Refused as refusal:
                reason = str(refusal)
                self._audit(AuditResult.REFUSED, reason, since=since)
                if not refusal.later:
                    break
            except (PeerpathError, TimeoutError) as error:
                reason = str(error) or f"no connection within {within:.3g} s"
                self._audit(AuditResult.FAILED, reason, since=since)
                if self.attempt is not None:
                    self.attempt.report.end(reason, self._loop.time())
            else:
                self._audit(AuditResult.CONNECTED, "made again", since=since)
                return True
            pause = min(options.reconnect_most, max(options.reconnect_first, pause * 2))
            pause *= random.uniform(0.8, 1.2)
        self.connection.fail(f"the connection could not be made again: {reason}")
        return False

    async def _closed_within(self, seconds: float) -> bool:
        """Waits; whether the application has closed the connection meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.connection.wait_closed(), max(seconds, 0.001))
        return self.connection.state is ConnectionState.CLOSED

    def _audit(self, result: AuditResult, reason: str = "", *, since: float | None = None) -> None:
        """`since` is when what has ended now began: the call, unless a later attempt of it is told of."""
        seconds = self._loop.time() - (self._began if since is None else since)
        path = self.connection.path
        self._kit.audit.write("dialed", self._peer, result, path=path, seconds=seconds, reason=reason)
