"""Route: one ICE session of an attempt, with sockets of its own, that tells its candidates as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from peerpath.calls.bodies import CandidatesBody, RouteBody
from peerpath.connection.report import AttemptReport, RouteReport
from peerpath.ice.agent import NotConnected
from peerpath.ice.candidate import Candidate, CandidateType
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.outputs import (
    AgentState,
    CandidateFound,
    DataReceived,
    GatheringComplete,
    Output,
    PairSelected,
    Path,
    StateChanged,
)
from peerpath.nat.behaviour import NatType

LINGER = 5.0
"""Seconds that a route which was replaced still receives."""

_BATCH_SECONDS = 0.01


class RouteOwner(Protocol):
    """The attempt."""

    def tell_candidates(self, body: CandidatesBody) -> None: ...

    def route_received(self, route: Route, data: bytes) -> None: ...

    def route_found(self, route: Route, path: Path) -> None:
        """A path, or a better one."""

    def route_lost(self, route: Route, reason: str) -> None:
        """It has no path any more, or never will have one."""


class Route:
    """`number` counts the routes of one attempt; `reason` says, for the report, why there is this one."""

    def __init__(
        self,
        number: int,
        reason: str,
        endpoint: IceEndpoint,
        owner: RouteOwner,
        report: AttemptReport,
        nat: Callable[[], NatType],
    ) -> None:
        self.number = number
        self.reason = reason
        self.endpoint = endpoint
        self.path: Path | None = None
        self.is_lost = False
        self.only_direct = False
        """Begun beside a relayed path that works, to find a direct one."""
        self.is_punched = False
        """Punching through hard NATs was begun on it."""
        self.plans_heard = 0
        """How often the peer has proposed to punch."""
        self.began = asyncio.get_running_loop().time()
        self._owner = owner
        self._report = report
        self._nat = nat
        self._is_told = False
        self._complete = asyncio.Event()
        self._waiting: list[Candidate] = []
        self._flush: asyncio.TimerHandle | None = None
        endpoint.on_output = self._output

    async def begin(self, *, trickle: bool) -> RouteBody:
        """Opens the sockets; what to tell the peer. Without `trickle` it names every candidate there will be.

        TraversalError when no socket can be opened.
        """
        await self.endpoint.gather()
        if not trickle:
            await self._complete.wait()
        self._is_told = True
        self._waiting.clear()  # they are in the description
        return self.body()

    def body(self) -> RouteBody:
        """This side, with the candidates that are known by now."""
        return RouteBody(self.number, self.endpoint.description, self._nat())

    def meet(self, body: RouteBody) -> None:
        """The peer's side."""
        self.endpoint.set_remote(body.description)

    def add(self, body: CandidatesBody) -> None:
        """Candidates of the peer that trickled in."""
        for candidate in body.candidates:
            self.endpoint.add_remote_candidate(candidate)
        if body.complete:
            self.endpoint.add_remote_candidate(None)

    def send(self, data: bytes) -> None:
        """A datagram for the peer; lost without a path, as any datagram may be."""
        with suppress(NotConnected):
            self.endpoint.send(data)

    def keep_report(self) -> None:
        """How it stands, into the report of the attempt."""
        ice = self.endpoint.report()
        self._report.keep(RouteReport(self.number, self.began - self._report.began, self.reason, ice))

    async def close(self) -> None:
        """Gives relays back and closes the sockets; the report keeps how it stood."""
        if self._flush is not None:
            self._flush.cancel()
        self.keep_report()
        self.endpoint.on_output = _ignore
        await self.endpoint.close()

    def _output(self, output: Output) -> None:
        if isinstance(output, DataReceived):
            self._owner.route_received(self, output.data)
        elif isinstance(output, CandidateFound):
            if self._is_told and output.candidate.type is not CandidateType.PEER_REFLEXIVE:
                self._waiting.append(output.candidate.candidate)
                self._tell_soon()
        elif isinstance(output, GatheringComplete):
            self._complete.set()
            if self._is_told:
                self._tell_soon()
        elif isinstance(output, PairSelected):
            self.path, self.is_lost = output.path, False
            self._owner.route_found(self, output.path)
        elif isinstance(output, StateChanged) and output.state in (
            AgentState.DISCONNECTED,
            AgentState.FAILED,
        ):
            self.path, self.is_lost = None, True
            self._owner.route_lost(self, output.reason)

    def _tell_soon(self) -> None:
        """Candidates that are found at about the same time go in one message."""
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_BATCH_SECONDS, self._tell)

    def _tell(self) -> None:
        self._flush = None
        waiting, self._waiting = tuple(self._waiting), []
        self._owner.tell_candidates(CandidatesBody(self.number, waiting, self._complete.is_set()))


def _ignore(_: Output) -> None:
    """What a closing endpoint still says concerns nobody."""
