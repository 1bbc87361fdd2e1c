"""Reception: takes the calls that come by one source, as far as the application allows."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peerpath.calls.answerer import Answerer
from peerpath.calls.audit import AuditResult
from peerpath.calls.bodies import BodyError, Kind, RouteBody, session_of
from peerpath.calls.decision import Decision, ask
from peerpath.calls.desk import AttemptChannel, Desk
from peerpath.calls.kit import CallKit
from peerpath.connection import Connection
from peerpath.connection.waiting import Signal
from peerpath.errors import PeerpathError
from peerpath.identity import PublicKey
from peerpath.signaling import Answering, SignalingError

_MAX_READY = 64

_log = logging.getLogger("peerpath")


class Reception:
    """The one reader of `source`, a rendezvous or a channel.

    It reads while a listener is open, or a connection that came this way may be made again; `forget` is
    called when neither is so any more.

    For each offer, in this order: its signature and freshness, the rate of its key, the application's
    `authorize`. Only then is a socket opened and an address told. What is refused is told so, sealed, and
    learns nothing else.
    """

    def __init__(
        self, kit: CallKit, source: Any, forget: Callable[[Reception], None], *, wall: Callable[[], float]
    ) -> None:
        self.source = source
        self.ready: deque[Connection] = deque()
        """Connections that no listener has taken yet."""
        self.changed = Signal()
        """Fires when there is a connection, or will be none."""
        self._kit = kit
        self._forget_this = forget
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._listeners: set[object] = set()
        self._answerers: dict[tuple[PublicKey, bytes], Answerer] = {}
        self._asking: dict[asyncio.Task[Decision], None] = {}
        self._on_their_way = 0
        self._coming_in: set[asyncio.Task[None]] = set()
        """New calls: they end with the last listener."""
        self._resuming: set[asyncio.Task[None]] = set()
        """Connections that are made again: listeners do not concern them."""
        self._reader: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def has_ended(self) -> bool:
        """No more calls will come by the source."""
        return self._reader is None or self._reader.done()

    def open(self, listener: object) -> None:
        """Calls are taken from now on, until every listener has left."""
        self._listeners.add(listener)
        if self.has_ended:
            self._reader = self._spawn(self._read(), self._reading)
            self._reader.add_done_callback(lambda _: self.changed.fire())

    async def leave(self, listener: object) -> None:
        """With the last listener those calls end that are on their way in, or were not taken."""
        self._listeners.discard(listener)
        self.changed.fire()
        if not self._listeners:
            try:
                await self._take_no_calls()
            finally:
                self._rest()

    async def close(self) -> None:
        """Ends everything that came this way, connections too."""
        self._listeners.clear()
        await self._take_no_calls()
        answerers = list(self._answerers.values())
        await asyncio.gather(*(answerer.close() for answerer in answerers), return_exceptions=True)
        left = [*self._resuming, *self._reading]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _take_no_calls(self) -> None:
        coming, nobodys = list(self._coming_in), list(self.ready)
        self.ready.clear()
        for task in coming:
            task.cancel()
        ends = [connection.close("nobody took the call") for connection in nobodys]
        await asyncio.gather(*coming, *ends, return_exceptions=True)

    def _rest(self) -> None:
        """Reads no more if nobody needs that."""
        if not self._listeners and not self._answerers and not self._resuming:
            for task in self._reading:
                task.cancel()
            self._forget_this(self)

    # -- offers -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        incoming = getattr(self.source, "incoming", None)
        if incoming is None:
            await Desk(self.source, self._offered).run()
            return
        async for _, channel in incoming():
            # Of its own for each attempt: with that it ends, or the rendezvous would run out of them.
            desk = Desk(channel, self._offered, getattr(channel, "close", None))
            self._spawn(desk.run(), self._reading)

    def _offered(self, data: bytes, channel: AttemptChannel) -> None:
        try:
            answering = Answering.open_offer(self._kit.identity, data, self._kit.guard, now=self._wall())
        except SignalingError as error:
            channel.hang_up()
            self._kit.audit.write("answered", None, AuditResult.REJECTED, reason=str(error))
            return
        if self._is_resumption(answering):
            resuming = self._spawn(self._take(answering, channel), self._resuming)
            resuming.add_done_callback(lambda _: self._rest())
        else:
            self._spawn(self._take(answering, channel), self._coming_in)

    async def _take(self, answering: Answering, channel: AttemptChannel) -> None:
        if not self._kit.limit.take(answering.peer, self._loop.time()):
            await self._refuse(answering, channel, AuditResult.LIMITED, "too many attempts, wait a minute")
        elif not self._listeners and not self._is_resumption(answering):
            await self._refuse(answering, channel, AuditResult.REFUSED, "the peer takes no calls now")
        else:
            await self._consider(answering, channel)

    async def _consider(self, answering: Answering, channel: AttemptChannel) -> None:
        peer = answering.peer
        try:
            decision = await self._ask(peer)
        except asyncio.CancelledError:
            channel.hang_up()
            raise
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
        return self._on_their_way >= self._kit.options.incoming_at_once or len(self.ready) >= _MAX_READY

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
        self.ready.append(answerer.connection)
        self.changed.fire()

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
        self._rest()

    def _spawn(self, work: Any, tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task
