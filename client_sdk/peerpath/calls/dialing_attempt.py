"""The dialer's side of an attempt: it offers, and it begins every route."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from peerpath.calls.attempt import Attempt
from peerpath.calls.bodies import BodyError, Kind, RouteBody, reason_of
from peerpath.calls.hard_nats import WAIT_FOR_CHECKS
from peerpath.calls.route import Route
from peerpath.errors import PeerpathError
from peerpath.ice.outputs import Path
from peerpath.nat.behaviour import NatType

RESTART_PAUSE = 1.0
"""Seconds from one restart to the next while none of them finds a path; it doubles each time."""
RESTART_PAUSE_MOST = 8.0


class Refused(PeerpathError):
    """The peer has answered that it will not talk to us, or not now."""

    def __init__(self, reason: str, *, later: bool) -> None:
        super().__init__(reason)
        self.later = later


class PeerFailed(PeerpathError):
    """The peer would talk, and says what keeps it from that at the moment."""


class DialingAttempt(Attempt):
    """`session` names the connection; with `resume` the peer must know it already."""

    _last_route = 0
    _unanswered: Route | None = None
    """A restart that the peer has not answered yet."""
    _restart_pause = RESTART_PAUSE
    _not_before = float("-inf")
    """When the next restart may begin."""
    _is_pausing = False

    @property
    def peer_nat(self) -> NatType:
        """As the peer says."""
        return self._hard_nats.peer_nat

    async def offer(self, session: bytes, *, resume: bool) -> None:
        """Opens sockets and says the first word. TraversalError when no socket can be opened."""
        self._not_before = self._loop.time() + RESTART_PAUSE
        route = self._new_route(0, "the first one")
        body = await route.begin(trickle=self.trickle)
        self._attach_link()
        await asyncio.sleep(0)  # the link's first packet goes along
        self.start()
        self.tell(Kind.OFFER, {**body.as_json(), "session": session.hex(), "resume": resume})
        self._note(f"offered, with {len(body.description.candidates)} candidates")

    async def _heard(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind == Kind.ANSWER or kind == Kind.RESTARTED:
            answer = RouteBody.from_json(body)
            self._unanswered = None
            self._note(f"the peer answers on route {answer.route}")
            self._meet(answer)
        elif kind == Kind.REFUSE:
            if not self.established.done():
                self._fail(_refusal(body))
        elif kind == Kind.BYE and not self.ended.done():
            reason = f"the peer has lost the link: {reason_of(body, 'no reason given')}"
            self._connection.interrupt(reason)
            self._fail(PeerpathError(reason))
        elif kind == Kind.PLEASE_RESTART:
            self.mend(reason_of(body, "the peer asks for another route"))
        elif kind in (Kind.OFFER, Kind.RESTART):
            raise BodyError(f"{kind}: that is for the dialer to say")
        else:
            await super()._heard(kind, body)

    def route_found(self, route: Route, path: Path) -> None:
        self._restart_pause = RESTART_PAUSE
        super().route_found(route, path)

    def mend(self, reason: str) -> None:
        if self.ended.done() or not self.trickle:
            return
        if self._is_looking:
            if self._unanswered is not None:
                self._tell_restart(self._unanswered)  # it may have been lost, or the answer
            return
        if self._is_pausing:
            return
        # Where nothing works, that is known at once: without a pause it would be tried without end.
        pause = self._not_before - self._loop.time()
        if pause > 0:
            self._is_pausing = True
            self._spawn(self._mend_later(pause, reason))
            return
        self._not_before = self._loop.time() + self._restart_pause
        self._restart_pause = min(RESTART_PAUSE_MOST, self._restart_pause * 2)
        self._spawn(self._restart(reason, only_direct=False))

    async def _mend_later(self, pause: float, reason: str) -> None:
        await asyncio.sleep(pause)
        self._is_pausing = False
        if self._active is None or self._active.path is None:
            self.mend(reason)

    def _improve(self) -> None:
        if self.trickle and not self._relay_only and not self.ended.done():
            self._spawn(self._restart("looking for a direct path", only_direct=True))

    def _punch_where_due(self, now: float) -> None:
        route = self._active
        if route is None or route.path is None or not route.path.is_relayed or route.is_punched:
            return
        if self._relay_only or not self.trickle or now - route.began < WAIT_FOR_CHECKS:
            return
        route.is_punched = True
        self._spawn(self._propose(route))

    async def _propose(self, route: Route) -> None:
        try:
            await self._hard_nats.propose(route)
        except PeerpathError as error:
            self._note(f"no punching: {error}")

    async def _restart(self, reason: str, *, only_direct: bool) -> None:
        self._last_route += 1
        route = self._new_route(self._last_route, reason, only_direct=only_direct)
        try:
            await route.begin(trickle=True)
        except PeerpathError as error:
            self._note(f"route {route.number}: {error}")
            return
        self._unanswered = route
        self._tell_restart(route)

    def _tell_restart(self, route: Route) -> None:
        self.tell_and_forget(Kind.RESTART, {**route.body().as_json(), "only-direct": route.only_direct})


def _refusal(body: Mapping[str, Any]) -> PeerpathError:
    if body.get("failed") is True:
        return PeerFailed(f"the call failed at the peer: {reason_of(body, 'no reason given')}")
    return Refused(reason_of(body, "the peer refuses"), later=body.get("later") is True)
