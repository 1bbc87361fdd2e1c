"""Listener: takes calls by a rendezvous or by a channel, as far as the application allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Self

from peerpath.calls.answerer import Answerer
from peerpath.calls.attempt_limit import AttemptLimit
from peerpath.calls.audit import AuditResult
from peerpath.calls.bodies import BodyError, Kind, RouteBody, session_of
from peerpath.calls.decision import Decision, ask
from peerpath.calls.desk import AttemptChannel, Desk
from peerpath.calls.kit import CallKit
from peerpath.connection import Connection
from peerpath.errors import PeerpathError
from peerpath.identity import PublicKey
from peerpath.signaling import Answering, SignalingClosed, SignalingError

_MAX_READY = 64

_log = logging.getLogger("peerpath")


class Listener:
    """Connections that peers have asked for.

        async with nat.listen(rendezvous) as calls:
            async for connection in calls:
                ...

    For each offer, in this order: its signature and freshness, the rate of its key, the application's
    `authorize`. Only then is a socket opened and an address told. What is refused is told so, sealed, and
    learns nothing else.
    """

    def __init__(
        self, kit: CallKit, source: Any, *, wall: Callable[[], float], limit: AttemptLimit | None = None
    ) -> None:
        options = kit.options
        self._kit = kit
        self._source = source
        self._wall = wall
        self._limit = limit or AttemptLimit(options.attempts_per_minute, options.attempts_burst)
        self._loop = asyncio.get_running_loop()
        self._answerers: dict[tuple[PublicKey, bytes], Answerer] = {}
        self._asking: dict[asyncio.Task[Decision], None] = {}
        self._on_their_way = 0
        self._ready: asyncio.Queue[Connection | None] = asyncio.Queue()
        self._coming_in: set[asyncio.Task[None]] = set()
        self._reading: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self) -> None:
        self._spawn(self._read(), self._reading)

    async def accept(self) -> Connection:
        """The next connection; SignalingClosed when no more will come."""
        connection = await self._ready.get()
        if connection is None:
            self._ready.put_nowait(None)
            raise SignalingClosed("no more calls: the channel or the listener was closed")
        return connection

    async def __aiter__(self) -> AsyncIterator[Connection]:
        while (connection := await self._ready.get()) is not None:
            yield connection
        self._ready.put_nowait(None)

    async def close(self) -> None:
        """Takes no more calls and ends those that are on their way in, or were not accepted.

        Connections go on, and what they need of the channel is still read.
        """
        self._is_closed = True
        await _cancel(self._coming_in)
        nobodys = []
        while not self._ready.empty():
            connection = self._ready.get_nowait()
            if connection is not None:
                nobodys.append(connection.close("nobody took the call"))
        self._ready.put_nowait(None)
        await asyncio.gather(*nobodys, return_exceptions=True)
        if not self._answerers:
            await _cancel(self._reading)

    async def close_connections(self) -> None:
        """Closes the listener and every connection that came by it."""
        await self.close()
        answerers = list(self._answerers.values())
        await asyncio.gather(*(answerer.close() for answerer in answerers), return_exceptions=True)
        await _cancel(self._reading)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- offers -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            incoming = getattr(self._source, "incoming", None)
            if incoming is None:
                await Desk(self._source, self._offered).run()
            else:
                async for _, channel in incoming():
                    # Of its own for each attempt: with that it ends, or the rendezvous would run out of them.
                    desk = Desk(channel, self._offered, getattr(channel, "close", None))
                    self._spawn(desk.run(), self._reading)
        finally:
            self._ready.put_nowait(None)

    def _offered(self, data: bytes, channel: AttemptChannel) -> None:
        self._spawn(self._take(data, channel), self._coming_in)

    async def _take(self, data: bytes, channel: AttemptChannel) -> None:
        try:
            answering = Answering.open_offer(self._kit.identity, data, self._kit.guard, now=self._wall())
        except SignalingError as error:
            channel.hang_up()
            self._kit.audit.write("answered", None, AuditResult.REJECTED, reason=str(error))
            return
        peer = answering.peer
        if not self._limit.take(peer, self._loop.time()):
            await self._refuse(answering, channel, AuditResult.LIMITED, "too many attempts, wait a minute")
            return
        if self._is_closed and not self._is_resumption(answering):
            await self._refuse(answering, channel, AuditResult.REFUSED, "the peer takes no calls now")
            return
        await self._consider(answering, channel)

    async def _consider(self, answering: Answering, channel: AttemptChannel) -> None:
        peer = answering.peer
        try:
            decision = await self._ask(peer)
        except Exception as error:
            _log.error("authorize failed, so the caller is refused: %s", error, exc_info=error)
            decision = Decision.REFUSE
        if decision is None or (decision is not Decision.REFUSE and self._is_busy):
            await self._refuse(answering, channel, AuditResult.LIMITED, "too busy, try again later")
            return
        if decision is Decision.REFUSE:
            await self._refuse(answering, channel, AuditResult.REFUSED, "the peer takes no calls of this key")
            return
        try:
            if answering.kind != Kind.OFFER:
                raise BodyError(f"the first message is not an offer but: {answering.kind}")
            offer, session = RouteBody.from_json(answering.body), session_of(answering.body)
        except BodyError as error:
            await self._refuse(answering, channel, AuditResult.REJECTED, str(error))
            return
        self._on_their_way += 1
        try:
            await self._let_in(answering, session, offer, channel, decision is Decision.RELAY_ONLY)
        finally:
            self._on_their_way -= 1

    @property
    def _is_busy(self) -> bool:
        return self._on_their_way >= self._kit.options.incoming_at_once or self._ready.qsize() >= _MAX_READY

    async def _ask(self, peer: PublicKey) -> Decision | None:
        """The application's word; None if it took so long that another call needed the place.

        Strangers wait while a person is asked, and keys cost nothing: they must not keep those out whom the
        application knows.
        """
        if len(self._asking) >= self._kit.options.incoming_at_once:
            longest = next(iter(self._asking))
            del self._asking[longest]
            longest.cancel()
        asked = self._loop.create_task(ask(self._kit.authorize, peer))
        self._asking[asked] = None
        try:
            await asyncio.wait([asked])
            return None if asked.cancelled() else asked.result()
        finally:
            self._asking.pop(asked, None)
            asked.cancel()

    async def _let_in(
        self,
        answering: Answering,
        session: bytes,
        offer: RouteBody,
        channel: AttemptChannel,
        relay_only: bool,
    ) -> None:
        peer = answering.peer
        known = self._answerers.get((peer, session))
        if answering.body.get("resume") is True:
            if known is None:
                reason = "the connection is not known here any more"
                await self._refuse(answering, channel, AuditResult.REJECTED, reason)
            else:
                await self._resume(known, answering, offer, channel, relay_only)
        elif known is not None:
            await self._refuse(answering, channel, AuditResult.REJECTED, "the connection exists already")
        else:
            await self._connect(answering, session, offer, channel, relay_only)

    def _is_resumption(self, answering: Answering) -> bool:
        """Whether the offer is for a connection that there is."""
        try:
            session = session_of(answering.body)
        except BodyError:
            return False
        return answering.body.get("resume") is True and (answering.peer, session) in self._answerers

    async def _connect(
        self,
        answering: Answering,
        session: bytes,
        offer: RouteBody,
        channel: AttemptChannel,
        relay_only: bool,
    ) -> None:
        answerer = Answerer(self._kit, answering.peer, session, self._forget)
        self._answerers[answerer.peer, session] = answerer
        try:
            await answerer.answer(answering, offer, channel, relay_only=relay_only)
        except PeerpathError as error:
            await answerer.give_up(AuditResult.FAILED, str(error))
            return
        except asyncio.CancelledError:
            await answerer.give_up(AuditResult.CANCELLED, "the listener was closed")
            raise
        except Exception as error:  # a mistake of ours, which the caller need not wait for
            await answerer.give_up(AuditResult.FAILED, f"{type(error).__name__}: {error}")
            raise
        answerer.begin_keeping()
        self._ready.put_nowait(answerer.connection)

    async def _resume(
        self,
        known: Answerer,
        answering: Answering,
        offer: RouteBody,
        channel: AttemptChannel,
        relay_only: bool,
    ) -> None:
        try:
            await known.answer(answering, offer, channel, relay_only=relay_only)
        except PeerpathError as error:
            self._kit.audit.write("answered", known.peer, AuditResult.FAILED, reason=str(error))

    async def _refuse(
        self, answering: Answering, channel: AttemptChannel, result: AuditResult, reason: str
    ) -> None:
        self._kit.audit.write("answered", answering.peer, result, reason=reason)
        body = {"reason": reason, "later": result is AuditResult.LIMITED}
        try:
            # What cannot be sent is lost: the caller will run into its timeout.
            with suppress(Exception):
                await channel.send(answering.seal(Kind.REFUSE.value, body))
        finally:
            channel.hang_up()

    def _forget(self, answerer: Answerer) -> None:
        self._answerers.pop((answerer.peer, answerer.session), None)
        if self._is_closed and not self._answerers:
            for task in self._reading:
                task.cancel()

    def _spawn(self, work: Any, tasks: set[asyncio.Task[None]]) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
