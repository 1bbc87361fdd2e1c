"""The listener's side of an attempt: it answers, and asks for another route where it needs one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peerpath.calls.attempt import MAX_ROUTES_AT_ONCE, Attempt
from peerpath.calls.bodies import BodyError, Kind, RouteBody, reason_of
from peerpath.errors import PeerpathError

_ASK_EVERY = 3.0


class AnsweringAttempt(Attempt):
    """Made once the caller was allowed in: no address is told and no packet sent before."""

    _asked_at = float("-inf")
    _last_route = -1

    async def answer(self, offer: RouteBody, packets: Iterable[bytes] = ()) -> None:
        """Opens sockets and answers; `packets` of the link came with the offer.

        TraversalError when no socket can be opened.
        """
        self._attach_link()
        for packet in packets:
            self._connection.receive(packet)
        self.start()
        await self._answer(offer, Kind.ANSWER, "the first one", only_direct=False)

    def refuse(self, reason: str) -> None:
        """There will be no connection: the caller need not wait until its time is over."""
        # What else the error tells, a report of addresses perhaps, is for this side alone.
        spoken = reason.partition("\n")[0]
        if self.trickle or not self._has_spoken:  # else somebody would have to carry a second text
            self.tell_and_forget(Kind.REFUSE, {"reason": spoken, "later": True, "failed": True})
        if not self.ended.done():
            self.abandon(reason)

    async def _answer(self, offer: RouteBody, kind: Kind, reason: str, *, only_direct: bool) -> None:
        self._last_route = offer.route
        route = self._new_route(offer.route, reason, only_direct=only_direct)
        self._know_peer(offer)
        route.meet(offer)
        body = await route.begin(trickle=self.trickle)
        self._know_peer(offer)  # now with what this side has
        self.tell(kind, body.as_json())

    async def _heard(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind == Kind.RESTART:
            offer = RouteBody.from_json(body)
            if offer.route <= self._last_route:
                self._answer_again(offer.route)
                return
            if len(self._dropped) >= MAX_ROUTES_AT_ONCE:
                raise BodyError("too many restarts at once")
            only_direct = body.get("only-direct") is True
            reason = "the peer looks for a direct path" if only_direct else "the peer wants another one"
            try:
                await self._answer(offer, Kind.RESTARTED, reason, only_direct=only_direct)
            except PeerpathError as error:
                self._note(f"route {offer.route}: {error}")
        elif kind == Kind.BYE:
            reason = f"the peer has given up: {reason_of(body, 'no reason given')}"
            self._fail(PeerpathError(reason))
            self._connection.fail(reason)  # it will not call again
        elif kind in (Kind.OFFER, Kind.ANSWER, Kind.RESTARTED, Kind.REFUSE, Kind.PLEASE_RESTART):
            raise BodyError(f"{kind}: that is for the listener to say")
        else:
            await super()._heard(kind, body)

    def _answer_again(self, number: int) -> None:
        """The answer was lost, if the route is still looking for a path."""
        route = self._routes.get(number)
        if route is not None and route.path is None:
            self.tell_and_forget(Kind.RESTARTED, route.body().as_json())

    def _link_ended(self, reason: str) -> None:
        # The dialer may still wait for answers; only it can make another link.
        self.say_goodbye(reason)
        super()._link_ended(reason)

    def _punch_where_due(self, now: float) -> None:
        """That is for the dialer to propose."""

    def _improve(self) -> None:
        """That is for the dialer to begin."""

    def mend(self, reason: str) -> None:
        if not self.trickle:
            return  # somebody would have to carry it
        now = self._loop.time()
        if self._is_looking or now - self._asked_at < _ASK_EVERY or self.ended.done():
            return
        self._asked_at = now
        self.tell_and_forget(Kind.PLEASE_RESTART, {"reason": reason})
