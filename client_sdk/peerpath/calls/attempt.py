"""Attempt: one exchange of signaling, the routes that it makes, and the secure link over them.

What both sides have in common; `dialing_attempt` and `answering_attempt` hold what only one of them does.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from peerpath.calls.bodies import BodyError, CandidatesBody, Kind, RouteBody
from peerpath.calls.correspondence import Correspondence
from peerpath.calls.early_packets import EarlyPackets, packets_of
from peerpath.calls.hard_nats import HardNats, families_of
from peerpath.calls.kit import CallKit
from peerpath.calls.paths import application_path
from peerpath.calls.route import LINGER, Route
from peerpath.calls.stall import StallWatch
from peerpath.connection import Connection, ConnectionClosed
from peerpath.connection.report import AttemptReport
from peerpath.errors import PeerpathError
from peerpath.ice.outputs import Path
from peerpath.ice.role import Role
from peerpath.identity import PublicKey
from peerpath.quic import LinkRole, SecureLink
from peerpath.signaling import Answering, Dialing, Signaling

ROUTE_PATIENCE = 10.0
"""Seconds that a route has to find a path before the next one is begun."""
IMPROVE_AFTER = 15.0
"""Seconds on a relayed path after which a direct one is looked for again; each time four times as long."""

NOBODY_CARRIES = "the link is gone, and somebody would have to carry what another one needs"
"""How a connection ends whose messages cost a person's effort."""

_ROLES = {LinkRole.DIALER: Role.CONTROLLING, LinkRole.LISTENER: Role.CONTROLLED}
_WATCH_SECONDS = 0.25
MAX_ROUTES_AT_ONCE = 4
_MAX_PLANS = 5


class Attempt(ABC):
    """Ends with its link: `ended` then holds the reason."""

    def __init__(
        self,
        kit: CallKit,
        role: LinkRole,
        peer: PublicKey,
        channel: Signaling,
        envelopes: Dialing | Answering,
        connection: Connection,
        report: AttemptReport,
        *,
        relay_only: bool,
    ) -> None:
        self.peer = peer
        self.report = report
        report.update = self._keep_reports
        loop = asyncio.get_running_loop()
        self.established: asyncio.Future[None] = loop.create_future()
        """Done when both sides have proven who they are; fails with what was in the way."""
        self.established.add_done_callback(_look_at)
        self.ended: asyncio.Future[str] = loop.create_future()
        self._kit = kit
        self._role = role
        self._correspondence = Correspondence(channel, envelopes, self._note, self._signaling_failed)
        self._connection = connection
        self._relay_only = relay_only
        self._loop = loop
        self._routes: dict[int, Route] = {}
        self._active: Route | None = None
        self._link: SecureLink | None = None
        self._stall = StallWatch(kit.options.silent_after, kit.options.lost_after)
        self._is_silent = False
        self._early = EarlyPackets()
        self._has_spoken = False
        self._has_path = asyncio.Event()
        self._hard_nats = HardNats(kit, report, self.tell_and_forget, self._note)
        self._improve_at: float | None = None
        self._improve_pause = IMPROVE_AFTER
        self._tasks: set[asyncio.Task[None]] = set()
        self._dropped: set[asyncio.Task[None]] = set()
        """Routes that are being closed: cancelled, they would keep their sockets."""
        self._closing: asyncio.Task[None] | None = None

    # -- for the call -----------------------------------------------------------------------------------

    @property
    def trickle(self) -> bool:
        """Whether candidates may follow one by one, or everything is to be said at once."""
        return self._correspondence.trickle

    def start(self) -> None:
        """Begins to listen and to talk; the subclass says the first word."""
        self._spawn(self._correspondence.send())
        self._spawn(self._correspondence.read(self._message))

    def tell(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Sends a sealed message, with what the link has to say so far."""
        self._has_spoken = True
        self.tell_and_forget(kind, {**body, **self._early.take()})

    def tell_and_forget(self, kind: Kind, body: Mapping[str, Any] | None = None) -> None:
        """Sends a sealed message; if signaling is stuck, it is lost."""
        self._correspondence.put(kind, body)

    def say_goodbye(self, reason: str) -> None:
        """So that the peer need not find out for itself; not where somebody would have to carry it."""
        if self.trickle:
            self.tell_and_forget(Kind.BYE, {"reason": reason})

    async def close(self) -> None:
        """Gives everything back, also if who waits for that is cancelled. The connection is not touched."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if not self.ended.done():
            self.ended.set_result("closed by this side")
        if not self.established.done():
            self.established.cancel()
        # What was to be said last goes out, if it goes at once.
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await self._correspondence.sent()
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._correspondence.hang_up()
        routes, self._routes = list(self._routes.values()), {}
        closing = [*(route.close() for route in routes), *self._dropped]
        await asyncio.gather(*closing, return_exceptions=True)
        self.report.update = None

    def abandon(self, reason: str) -> None:
        """Ends it from this side; whoever waits for it is told so."""
        self._fail(PeerpathError(reason))

    def _keep_reports(self) -> None:
        """How the routes stand now, into the report."""
        for route in self._routes.values():
            route.keep_report()

    @abstractmethod
    def mend(self, reason: str) -> None:
        """The path is bad or gone: get another one, unless that is under way."""

    # -- routes -----------------------------------------------------------------------------------------

    def _new_route(self, number: int, reason: str, *, only_direct: bool = False) -> Route:
        endpoint = self._kit.endpoint(_ROLES[self._role], relay_only=self._relay_only, peer=self.peer)
        route = Route(number, reason, endpoint, self, self.report, self._kit.nat_type)
        route.only_direct = only_direct
        endpoint.on_hosts_changed = lambda: self.mend("the interfaces of this machine have changed")
        self._routes[number] = route
        if len(self._routes) > MAX_ROUTES_AT_ONCE:
            oldest = min(known for known in self._routes if self._routes[known] is not self._active)
            self._drop(self._routes[oldest])
        self._note(f"route {number}: {reason}")
        return route

    @property
    def _is_looking(self) -> bool:
        """A route is under way that may still find a path."""
        now = self._loop.time()
        active = -1 if self._active is None else self._active.number
        return any(
            route.number > active
            and not route.is_lost
            and not route.only_direct
            and now - route.began < ROUTE_PATIENCE
            for route in self._routes.values()
        )

    def _sweep(self, now: float) -> None:
        """Lets routes go that have found nothing, or nothing better."""
        for route in list(self._routes.values()):
            if route is not self._active and now - route.began > ROUTE_PATIENCE + LINGER:
                self._drop(route)

    def _drop(self, route: Route) -> None:
        if route is self._active:
            return
        if self._routes.get(route.number) is route:
            del self._routes[route.number]
            self._spawn(route.close(), self._dropped)

    def tell_candidates(self, body: CandidatesBody) -> None:
        if self.trickle:
            self.tell_and_forget(Kind.CANDIDATES, body.as_json())

    def route_received(self, route: Route, data: bytes) -> None:
        self._stall.received(self._loop.time())
        self._connection.receive(data)

    def route_found(self, route: Route, path: Path) -> None:
        active = self._active
        if active is not None and active.path is not None and active is not route:
            if route.number < active.number:
                return
            if route.only_direct and path.is_relayed:
                return  # it was begun for a direct path; until there is one, nothing is gained
        self._active = route
        self._plan_improvement(path)
        self._note(f"route {route.number}: {_spoken(path)}")
        self._connection.use_path(application_path(path), "" if active is route else route.reason)
        self._has_path.set()
        for older in [known for known in self._routes.values() if known.number < route.number]:
            self._loop.call_later(LINGER, self._drop, older)

    def route_lost(self, route: Route, reason: str) -> None:
        self._note(f"route {route.number} has no path: {reason}")
        if route is self._active:
            others = [known for known in self._routes.values() if known.path is not None]
            self._active = max(others, key=lambda known: known.number, default=None)
            if self._active is not None and self._active.path is not None:
                self._connection.use_path(application_path(self._active.path), reason)
            else:
                self._connection.use_path(None, reason)
        if self._active is None and self._is_hopeless:
            self._fail(PeerpathError("there is no way to the peer"))
        elif self._active is None:
            self.mend(reason or "no path")

    @property
    def _is_hopeless(self) -> bool:
        """Nothing is left that another route could try: both sides have named all that they have."""
        plan = self.report.plan
        return not self._has_path.is_set() and plan is not None and not plan.steps

    def _plan_improvement(self, path: Path) -> None:
        if not path.is_relayed:
            self._improve_at, self._improve_pause = None, IMPROVE_AFTER
        elif self._improve_at is None:
            self._improve_at = self._loop.time() + self._improve_pause

    @abstractmethod
    def _punch_where_due(self, now: float) -> None:
        """For the side that begins things."""

    @abstractmethod
    def _improve(self) -> None:
        """For the side that begins routes."""

    def _transmit(self, data: bytes) -> None:
        if self._active is not None:
            self._active.send(data)
        elif not self._has_path.is_set() and self.trickle and self._early.add(data):
            # The handshake need not wait for a path: its first packets go with the candidates.
            self._loop.call_soon(self._tell_early)

    def _tell_early(self) -> None:
        if self._has_spoken and self._early:
            self.tell(Kind.LINK, {})

    # -- the link ---------------------------------------------------------------------------------------

    def _attach_link(self) -> None:
        link = SecureLink(self._role, self._kit.identity, self.peer, now=self._loop.time())
        self._link = link
        self._connection.on_interrupted = self._link_ended
        self._connection.attach(link, self._transmit)
        self._spawn(self._wait_connected())

    async def _wait_connected(self) -> None:
        try:
            await self._connection.wait_connected()
            self._note("both sides have proven who they are")
            await self._has_path.wait()
        except ConnectionClosed as closed:
            if not (closed.by_peer and closed.in_order):
                self._fail(closed)
                return
            # All that the peer had to say came at once with its goodbye: a call that the application gets.
            self._note("both sides have proven who they are, and the peer has closed the connection")
        self.report.end("connected", self._loop.time())
        if not self.established.done():
            self.established.set_result(None)
        await self._watch()

    def _link_ended(self, reason: str) -> None:
        self._fail(PeerpathError(reason))

    def _fail(self, error: PeerpathError) -> None:
        reason = str(error)
        self._note(reason)
        self.report.end(reason, self._loop.time())
        if not self.established.done():
            self.established.set_exception(error)
        if not self.ended.done():
            self.ended.set_result(reason)

    async def _watch(self) -> None:
        """Notices long before consent expires that the peer has gone quiet."""
        while self._link is not None:
            await asyncio.sleep(_WATCH_SECONDS)
            now = self._loop.time()
            self._listen_for_silence(self._link, now)
            if self._stall.is_lost(now):
                self._lose_link(f"the peer has not been heard for {self._kit.options.lost_after:g} s")
                return
            if self._improve_at is not None and now >= self._improve_at:
                self._improve_pause *= 4
                self._improve_at = now + self._improve_pause
                self._improve()
            self._sweep(now)
            self._punch_where_due(now)

    def _listen_for_silence(self, link: SecureLink, now: float) -> None:
        consented_at = None if self._active is None else self._active.endpoint.consented_at
        if consented_at is not None:
            self._stall.consented(consented_at)
        if self._stall.should_probe(link.is_waiting, now):
            self._connection.probe()
        if self._stall.should_mend(now):
            if self._active is not None:
                self._active.endpoint.doubt()
            self.mend("the peer has not been heard for a while")
        if self._stall.is_silent(now) is not self._is_silent:
            self._is_silent = not self._is_silent
            self._connection.path_silent(self._is_silent)
            self._note("the peer is silent" if self._is_silent else "the peer is heard again")

    def _lose_link(self, reason: str) -> None:
        """The peer is gone, or both have looked for another path in vain: only another attempt may help."""
        self._connection.use_path(None, reason)
        self._connection.interrupt(reason)
        self._link_ended(reason)

    # -- signaling --------------------------------------------------------------------------------------

    async def _message(self, kind: str, body: Mapping[str, Any]) -> None:
        await self._heard(kind, body)
        for packet in packets_of(body):
            self._connection.receive(packet)

    def _signaling_failed(self, error: PeerpathError) -> None:
        """Before there is a link that ends the attempt, afterwards it only makes mending impossible."""
        if self.established.done():
            self._note(f"signaling: {error}")
        else:
            self._fail(error)

    async def _heard(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind == Kind.CANDIDATES:
            candidates = CandidatesBody.from_json(body)
            route = self._routes.get(candidates.route)
            if route is not None:
                route.add(candidates)
        elif kind == Kind.PUNCH:
            punched = self._routes.get(CandidatesBody.from_json(body).route)
            if punched is not None and not self._relay_only and punched.plans_heard < _MAX_PLANS:
                punched.plans_heard += 1
                self._spawn(self._punch(punched, body))

    async def _punch(self, route: Route, body: Mapping[str, Any]) -> None:
        try:
            await self._hard_nats.heard(route, body)
        except PeerpathError as error:
            self._note(f"no punching: {error}")

    def _meet(self, body: RouteBody) -> None:
        self._know_peer(body)
        route = self._routes.get(body.route)
        if route is None:
            raise BodyError(f"there is no route {body.route}")
        route.meet(body)

    def _know_peer(self, body: RouteBody) -> None:
        route = self._routes.get(body.route)
        if route is not None:
            self._hard_nats.families = families_of(route.endpoint.description)
        self._hard_nats.peer_families = families_of(body.description)
        self._hard_nats.peer_nat = body.nat
        self._hard_nats.plan(is_trusted=not self._relay_only)

    # -- small things -----------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self.report.note(text, self._loop.time())

    def _spawn(self, work: Any, tasks: set[asyncio.Task[None]] | None = None) -> None:
        tasks = self._tasks if tasks is None else tasks
        task: asyncio.Task[None] = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _spoken(path: Path) -> str:
    kind = f"{path.local.type.value} to {path.remote.type.value}"
    return f"{kind}, nominated" if path.nominated else kind


def _look_at(future: asyncio.Future[None]) -> None:
    """Whoever gave up waiting does not want to hear of it; asyncio would complain."""
    if not future.cancelled():
        future.exception()
