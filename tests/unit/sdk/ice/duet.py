"""Two agents that talk in memory: virtual time, one delay, and a say in which packets arrive."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from peerpath.ice import (
    AgentOptions,
    AgentState,
    Candidate,
    CandidateType,
    DataReceived,
    IceAgent,
    LocalCandidate,
    Output,
    PairSelected,
    Role,
    StateChanged,
    Transmit,
)
from peerpath.ice.pacer import Pacer
from peerpath.ice.priority import candidate_priority
from stunwire import TransportAddress

T = TypeVar("T")
Pass = Callable[[Transmit], bool]


def host_candidate(
    host: str, port: int = 4000, *, preference: int = 65535, foundation: str = "1"
) -> LocalCandidate:
    address = TransportAddress(host, port)
    return LocalCandidate(
        Candidate(
            CandidateType.HOST, address, candidate_priority(CandidateType.HOST, preference), foundation
        ),
        address,
        preference,
    )


def relayed_candidate(host: str, port: int = 50000, *, foundation: str = "9") -> LocalCandidate:
    address = TransportAddress(host, port)
    return LocalCandidate(
        Candidate(
            CandidateType.RELAYED, address, candidate_priority(CandidateType.RELAYED, 65535), foundation
        ),
        address,
    )


@dataclass
class Player:
    """One agent and what it said."""

    name: str
    agent: IceAgent
    outputs: list[tuple[float, Output]] = field(default_factory=list)

    def said(self, kind: type[T]) -> list[T]:
        return [output for _, output in self.outputs if isinstance(output, kind)]

    def when(self, kind: type[Any]) -> list[float]:
        return [at for at, output in self.outputs if isinstance(output, kind)]

    @property
    def states(self) -> list[AgentState]:
        return [change.state for change in self.said(StateChanged)]

    @property
    def selections(self) -> list[PairSelected]:
        return self.said(PairSelected)

    @property
    def data(self) -> list[bytes]:
        return [received.data for received in self.said(DataReceived)]


class Duet:
    """`a` initiates. Addresses are routed to whoever has a candidate with that base."""

    def __init__(
        self,
        *,
        delay: float = 0.01,
        roles: tuple[Role, Role] = (Role.CONTROLLING, Role.CONTROLLED),
        options: AgentOptions | tuple[AgentOptions, AgentOptions] | None = None,
        passes: Pass = lambda _: True,
        seed: int = 1,
    ) -> None:
        a_options, b_options = options if isinstance(options, tuple) else (options, options)
        self.now = 0.0
        self.delay = delay
        self.passes = passes
        self.a = Player("a", IceAgent(roles[0], options=a_options, pacer=Pacer(), random=Random(seed)))
        self.b = Player("b", IceAgent(roles[1], options=b_options, pacer=Pacer(), random=Random(seed + 1)))
        self.sent: list[tuple[float, str, Transmit]] = []
        self._owner: dict[TransportAddress, Player] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()

    def other(self, player: Player) -> Player:
        return self.b if player is self.a else self.a

    def give(self, player: Player, *candidates: LocalCandidate) -> None:
        for candidate in candidates:
            self._owner[candidate.base] = player
            self.do(player, player.agent.add_local_candidate(candidate, self.now))

    def describe(self, player: Player) -> None:
        """Sends the player's description to the other one, at once."""
        other = self.other(player)
        self.do(other, other.agent.set_remote(player.agent.description, self.now))

    def start(self, *, end: bool = True) -> None:
        """Both sides know each other's candidates; none will follow if `end`."""
        for player in (self.a, self.b):
            if end:
                self.do(player, player.agent.end_of_local_candidates(self.now))
        self.describe(self.a)
        self.describe(self.b)

    def send(self, player: Player, data: bytes) -> None:
        self.do(player, player.agent.send(data, self.now))

    def do(self, player: Player, outputs: list[Output]) -> None:
        for output in outputs:
            player.outputs.append((self.now, output))
            if isinstance(output, Transmit):
                self.sent.append((self.now, player.name, output))
                if self.passes(output):
                    self._at(self.now + self.delay, lambda output=output: self._deliver(output))

    def run(self, until: float) -> None:
        """Lets time pass up to `until`."""
        while True:
            moments = [self._events[0][0]] if self._events else []
            moments += [at for player in (self.a, self.b) if (at := player.agent.next_deadline()) is not None]
            at = min(moments, default=None)
            if at is None or at > until:
                break
            self.now = max(self.now, at)
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
                continue
            for player in (self.a, self.b):
                deadline = player.agent.next_deadline()
                if deadline is not None and deadline <= self.now:
                    self.do(player, player.agent.handle_timeout(self.now))
        self.now = until

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._serial), action))

    def _deliver(self, packet: Transmit) -> None:
        player = self._owner.get(packet.remote)
        if player is not None:
            self.do(player, player.agent.receive(packet.data, packet.remote, packet.local, self.now))
