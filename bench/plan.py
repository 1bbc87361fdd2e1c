"""Which scenarios are run, how long and how often."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import scenarios
from bench.clients import Fleet
from bench.generator import Generator
from bench.machine import load_average
from bench.network import GENERATOR_CORE, SERVER_CORE, Bench, awake, most_clients
from bench.relays import Kind, Relay, Ruleless, Team
from bench.scenarios import Figures, Stage
from bench.streams import StreamFleet

FORWARDING = "kernel forwarding"
RULELESS = Ruleless()
GENERATOR = "all that the generator can"
WORKERS, ALLOCATIONS = "workers", "allocations"
CORES = (SERVER_CORE, GENERATOR_CORE)
WORKERS_FLOWS, IN_FLIGHT = 1000, 240
"""A veth has 256 places: as many packets go round as find room wherever all of them meet."""
SMALL, LARGE = 172, 1200
FIXED, ECHO, STREAM_RATE, FLOOD = 50_000, 20_000, 10_000, 1_200_000
"""Packets a second that are offered. coturn can echo no 50,000: that is 100,000 relayed packets."""


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float
    flows: tuple[int, ...]
    """Numbers of clients; the first of them also carries the scenarios that need no number of their own."""
    resolution: float
    """How near to each other a rate that is carried and one that is not have to be."""
    pings: int
    allocations: int
    connections: int
    everything: bool


FULL = Plan(
    rounds=5,
    seconds=1.0,
    flows=(1000, 1, 100, 10_000),
    resolution=1.02,
    pings=3000,
    allocations=1000,
    connections=100,
    everything=True,
)
QUICK = Plan(
    rounds=3,
    seconds=0.5,
    flows=(1000, 100),
    resolution=1.06,
    pings=600,
    allocations=300,
    connections=20,
    everything=False,
)


@dataclass(frozen=True)
class Scenario:
    key: str
    measure: Callable[[Stage, Fleet], Figures]


def udp_scenarios(plan: Plan, flows: int) -> Iterator[Scenario]:
    """On this number of clients."""
    everything = plan.everything
    sizes = (SMALL, LARGE) if everything else (SMALL,)
    for size in sizes if everything or flows == 1000 else ():
        at = f"{size} B, {flows} flows"
        yield Scenario(f"one way, {at}", partial(scenarios.fixed_rate, payload=size, rate=FIXED))
        yield Scenario(f"echo, {at}", partial(scenarios.fixed_rate, payload=size, rate=ECHO, echo=True))
        if flows == 1000 or size == SMALL:
            yield Scenario(
                f"highest rate, {at}",
                partial(scenarios.highest_rate, payload=size, resolution=plan.resolution),
            )
    at = f"{SMALL} B, {flows} flows"
    if flows == 1000:
        measure = partial(scenarios.send_indications, payload=SMALL, rate=ECHO)
        yield Scenario(f"Send indications, {at}", measure)
    if flows == 100:
        for size in sizes:
            measure = partial(scenarios.flood, payload=size, rate=FLOOD)
            yield Scenario(f"flood, {size} B, {flows} flows", measure)
        yield Scenario(f"ping-pong, {SMALL} B", partial(scenarios.ping_pong, payload=SMALL, count=plan.pings))
    if flows > 1000:
        measure = partial(scenarios.fixed_rate, payload=SMALL, rate=50 * flows, echo=True)
        yield Scenario(f"both ways, 50 packets/s each, {at}", measure)


Sample = dict[str, Any]


class Run:
    """One run of a plan: rounds in which each relay has its turn, so that what disturbs one disturbs all."""

    def __init__(
        self,
        plan: Plan,
        kinds: Iterable[Kind],
        teams: Iterable[Team],
        folder: Path,
        *,
        again: Sequence[str] | None = None,
    ) -> None:
        """`kinds` are compared with each other, `teams` among themselves. With `again`, only the
        scenarios whose names begin so are measured: those over UDP, the workers, the allocations."""
        self._plan = plan
        self._again = again
        self._kinds = list(kinds)
        self._teams = list(teams)
        self._folder = folder
        self._stages: dict[str, Stage] = {}
        """By relay. Each has a network of its own: a kernel plane sits on its server's interfaces."""
        self.samples: list[Sample] = []

    def everything(self) -> list[Sample]:
        with ExitStack() as stack:
            stack.enter_context(awake())
            if self._teams and self._is_wanted(WORKERS):
                self._workers()
            if not self._kinds:
                return self.samples
            names = [FORWARDING, *(kind.name for kind in self._kinds)]
            for name in names + [RULELESS.name] * self._plan.everything:
                self._stages[name] = self._new_stage(name, stack)
            for flows in self._plan.flows:
                if self._scenarios(flows):
                    self._udp(min(flows, most_clients(1)))
            if self._again is None:
                self._generator_alone()
            if self._is_wanted(ALLOCATIONS):
                with self._relays() as relays:
                    self._allocations(relays)
            if self._again is None:
                with self._relays() as relays:
                    self._streams(relays)
        return self.samples

    def _workers(self) -> None:
        with ExitStack() as stack:
            started = [(team.name, *self._start(team, stack)) for team in self._teams]
            for round_ in range(self._plan.rounds):
                for name, stage, fleets in _in_turn(started, round_):
                    for fleet in fleets:
                        fleet.keep()
                    figures = scenarios.circulation(stage, fleets, SMALL, IN_FLIGHT)
                    self._add(f"{WORKERS}, {SMALL} B, {WORKERS_FLOWS} flows", name, round_, figures)

    def _start(self, team: Team, stack: ExitStack) -> tuple[Stage, list[Fleet]]:
        stage = self._new_stage(team.name, stack, CORES[: team.cores])
        fleets = []
        for number, kind in enumerate(team.members):
            relay = stack.enter_context(Relay(kind, stage.bench, stage.folder / str(number)))
            fleets.append(scenarios.allocations(stage, relay, WORKERS_FLOWS // len(team.members))[0])
            stack.callback(fleets[-1].close)
        return stage, fleets

    def _new_stage(self, name: str, stack: ExitStack, cores: Sequence[int] = CORES[:1]) -> Stage:
        folder = self._folder / re.sub(r"\W+", "_", name)
        folder.mkdir()
        bench = stack.enter_context(Bench(cores))
        generator = stack.enter_context(Generator(bench, folder))
        return Stage(bench, generator, self._plan.seconds, folder)

    def _scenarios(self, flows: int) -> list[Scenario]:
        return [one for one in udp_scenarios(self._plan, flows) if self._is_wanted(one.key)]

    def _is_wanted(self, scenario: str) -> bool:
        return self._again is None or scenario.startswith(tuple(self._again))

    def _stage(self, relay: Relay) -> Stage:
        return self._stages[relay.name]

    @contextmanager
    def _relays(self) -> Iterator[list[Relay]]:
        with ExitStack() as stack:
            yield [
                stack.enter_context(Relay(kind, stage.bench, stage.folder))
                for kind in self._kinds
                if (stage := self._stages[kind.name])
            ]

    def _udp(self, flows: int) -> None:
        with self._relays() as relays, ExitStack() as stack:
            fleets = []
            for relay in relays:
                fleet, figures = scenarios.allocations(self._stage(relay), relay, flows)
                fleets.append(fleet)
                if flows > most_clients(len(relays)):
                    fleet.let_go()
                stack.callback(fleet.close)
                if flows >= 1000 and self._again is None:
                    kept = {"kib_per_allocation": figures["kib_per_allocation"]}
                    self._add(f"memory, {flows} idle allocations", relay.name, 0, kept)
            for round_ in range(self._plan.rounds):
                for scenario in self._scenarios(flows):
                    if scenario.key.startswith("one way") or scenario.key.startswith("flood"):
                        self._forwarding(scenario.key, round_, flows)
                    for fleet in _in_turn(fleets, round_):
                        fleet.keep()
                        self._add(
                            scenario.key,
                            fleet.relay.name,
                            round_,
                            scenario.measure(self._stage(fleet.relay), fleet),
                        )

    def _generator_alone(self) -> None:
        for round_ in range(self._plan.rounds):
            figures = scenarios.forwarding(self._stages[FORWARDING], SMALL, 0, 1000)
            self._add(GENERATOR, FORWARDING, round_, figures)

    def _forwarding(self, key: str, round_: int, flows: int) -> None:
        size = SMALL if f"{SMALL} B" in key else LARGE
        rate = FLOOD if key.startswith("flood") else FIXED
        self._add(key, FORWARDING, round_, scenarios.forwarding(self._stages[FORWARDING], size, rate, flows))

    def _allocations(self, relays: list[Relay]) -> None:
        with ExitStack() as stack:
            if (stage := self._stages.get(RULELESS.name)) is not None:
                relays = [*relays, stack.enter_context(Relay(RULELESS, stage.bench, stage.folder))]
            self._allocations_of(relays)

    def _allocations_of(self, relays: list[Relay]) -> None:
        # The sockets stay open to the end: a port that ended an allocation is not used again at once.
        done: list[Fleet] = []
        count = min(self._plan.allocations, most_clients(self._plan.rounds * len(relays)))
        for round_ in range(self._plan.rounds):
            for relay in _in_turn(relays, round_):
                fleet, figures = scenarios.allocations(self._stage(relay), relay, count)
                figures.pop("kib_per_allocation")  # memory that earlier rounds gave back is used again
                fleet.release()
                done.append(fleet)
                self._add(ALLOCATIONS, relay.name, round_, figures)
        for fleet in done:
            fleet.close()

    def _streams(self, relays: list[Relay]) -> None:
        for tls in (False, True):
            name = "TLS" if tls else "TCP"
            fleets = [
                StreamFleet(self._stage(relay).bench, relay, self._plan.connections, tls=tls)
                for relay in relays
            ]
            for fleet in fleets:
                fleet.allocate()
            for round_ in range(self._plan.rounds):
                for way, measure in self._stream_scenarios():
                    for fleet in _in_turn(fleets, round_):
                        figures = measure(self._stage(fleet.relay), fleet, SMALL, STREAM_RATE)
                        self._add(f"{name} {way}, {SMALL} B", fleet.relay.name, round_, figures)
            for fleet in fleets:
                fleet.close()

    def _stream_scenarios(self) -> Iterator[tuple[str, Callable[[Stage, StreamFleet, int, float], Figures]]]:
        yield "one way", scenarios.stream
        if self._plan.everything:
            yield "towards the client", scenarios.stream_to_clients

    def _add(self, scenario: str, relay: str, round_: int, figures: Figures) -> None:
        self.samples.append(
            {
                "scenario": scenario,
                "relay": relay,
                "round": round_,
                "at": round(time.time(), 1),
                "machine_load": load_average(),
                **figures,
            }
        )
        brief = ", ".join(f"{key} {value:.4g}" for key, value in figures.items() if isinstance(value, float))
        print(f"  {scenario:45} {relay:20} {brief}", file=sys.stderr, flush=True)


def _in_turn(things: list[Any], round_: int) -> list[Any]:
    """Each round begins with another one."""
    start = round_ % len(things)
    return things[start:] + things[:start]
