"""Answerer: one connection from the side that was called, through as many attempts as the caller makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peerpath.calls.answering_attempt import AnsweringAttempt
from peerpath.calls.attempt import NOBODY_CARRIES
from peerpath.calls.audit import AuditResult
from peerpath.calls.bodies import RouteBody
from peerpath.calls.early_packets import packets_of
from peerpath.calls.kit import CallKit
from peerpath.connection import Connection, ConnectionState
from peerpath.errors import PeerpathError
from peerpath.identity import PublicKey
from peerpath.quic import LinkRole
from peerpath.signaling import Answering, Signaling

_TAKEN_OVER = "a newer attempt of the same peer took over"


class Answerer:
    """`session` is the caller's name for the connection; `forget` is called when it has ended."""

    def __init__(
        self, kit: CallKit, peer: PublicKey, session: bytes, forget: Callable[[Answerer], None]
    ) -> None:
        self.connection = Connection(peer, options=kit.connection)
        self.report = self.connection.report
        self.peer = peer
        self.session = session
        self.attempt: AnsweringAttempt | None = None
        self._kit = kit
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._resumed = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def answer(
        self, answering: Answering, offer: RouteBody, channel: Signaling, *, relay_only: bool
    ) -> None:
        """The first attempt or a later one, until both sides have proven who they are.

        PeerpathError with what was in the way, of which the caller is told. A later attempt takes the place
        of the one before, of which the caller knows more: it would not call again if that still worked.
        """
        report = self.report.begin("answered", self._loop.time())
        attempt = AnsweringAttempt(
            self._kit,
            LinkRole.LISTENER,
            self.peer,
            channel,
            answering,
            self.connection,
            report,
            relay_only=relay_only,
        )
        before, self.attempt = self.attempt, attempt
        if before is not None:
            await before.close()
            if attempt is not self.attempt:
                raise PeerpathError(_TAKEN_OVER)
        try:
            async with asyncio.timeout(self._kit.options.timeout):
                await attempt.answer(offer, packets_of(answering.body))
                await attempt.established
        except TimeoutError:
            reason = f"no connection within {self._kit.options.timeout:g} s"
            attempt.refuse(reason)
            raise PeerpathError(reason) from None
        except PeerpathError as error:
            attempt.refuse(str(error))
            raise
        except asyncio.CancelledError:
            if attempt is not self.attempt:
                raise PeerpathError(_TAKEN_OVER) from None
            raise
        if self._keeping is not None:
            self._audit(AuditResult.CONNECTED, "made again", since=report.began)
        self._resumed.set()

    def begin_keeping(self) -> None:
        """After the first attempt was successful."""
        self._audit(AuditResult.CONNECTED)
        self._keeping = self._loop.create_task(self._keep())

    async def give_up(self, result: AuditResult, reason: str) -> None:
        """The first attempt came to nothing."""
        if self.attempt is not None and not self.attempt.ended.done():
            self.attempt.refuse(reason)
        self.connection.fail(reason)  # while there is a path on which the peer can be told
        try:
            if self.attempt is not None:
                await self.attempt.close()
        finally:
            self._audit(result, reason)
            self._forget(self)

    async def close(self, reason: str = "") -> None:
        await self.connection.close(reason)
        if self._keeping is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._keeping, 5)

    async def _keep(self) -> None:
        closed = self._loop.create_task(self.connection.wait_closed())
        try:
            while not closed.done():
                assert self.attempt is not None
                attempt = self.attempt
                waiting: list[asyncio.Future[Any]] = [closed, attempt.ended]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if closed.done() or attempt is not self.attempt:
                    continue
                if attempt.trickle:
                    await self._wait_for_the_caller(closed)
                elif self.connection.state is not ConnectionState.CLOSED:
                    self.connection.fail(NOBODY_CARRIES)
        finally:
            closed.cancel()
            await self.connection.wait_released()
            if self.attempt is not None:
                await self.attempt.close()
            self._audit(AuditResult.CLOSED, self.connection.close_reason or "")
            self._forget(self)

    async def _wait_for_the_caller(self, closed: asyncio.Task[None]) -> None:
        """The link is gone: the caller calls again, or this is the end."""
        self._resumed.clear()
        resumed = self._loop.create_task(self._resumed.wait())
        try:
            await asyncio.wait(
                [closed, resumed],
                timeout=self._kit.options.reconnect_for,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            resumed.cancel()
        if not self._resumed.is_set() and self.connection.state is not ConnectionState.CLOSED:
            self.connection.fail("the connection was interrupted, and the peer has not called again")

    def _audit(self, result: AuditResult, reason: str = "", *, since: float | None = None) -> None:
        """`since` is when what has ended now began: the call, unless a later attempt of it is told of."""
        seconds = self._loop.time() - (self._began if since is None else since)
        path = self.connection.path
        self._kit.audit.write("answered", self.peer, result, path=path, seconds=seconds, reason=reason)
