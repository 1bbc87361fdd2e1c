"""Which scenarios are run, how long and how often."""

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
from bench.relays import Kind, Relay, Turnrelay
from bench.scenarios import Figures, Stage
from bench.streams import StreamFleet

FORWARDING = "kernel forwarding"
GENERATOR = "all that the generator can"
WORKERS = "workers"
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
        worker_kinds: Iterable[Turnrelay],
        folder: Path,
        *,
        again: Sequence[str] | None = None,
    ) -> None:
        """`kinds` are compared with each other, `worker_kinds` among themselves. With `again`, only the UDP
        scenarios whose names begin so are measured."""
        self._plan = plan
        self._again = again
        self._kinds = list(kinds)
        self._worker_kinds = list(worker_kinds)
        self._folder = folder
        self._stages: dict[str, Stage] = {}
        """By relay. Each has a network of its own: a kernel plane sits on its server's interfaces."""
        self.samples: list[Sample] = []

    def everything(self) -> list[Sample]:
        with ExitStack() as stack:
            stack.enter_context(awake())
            if self._worker_kinds:
                self._workers()
            if not self._kinds:
                return self.samples
            for name in [FORWARDING, *(kind.name for kind in self._kinds)]:
                folder = self._folder / name.replace(" ", "_")
                folder.mkdir()
                bench = stack.enter_context(Bench())
                generator = stack.enter_context(Generator(bench, folder))
                self._stages[name] = Stage(bench, generator, self._plan.seconds, folder)
            for flows in self._plan.flows:
                if self._scenarios(flows):
                    self._udp(min(flows, most_clients(1)))
            if self._again is not None:
                return self.samples
            self._generator_alone()
            with self._relays() as relays:
                self._allocations(relays)
                self._streams(relays)
        return self.samples

    def _workers(self) -> None:
        with ExitStack() as stack:
            fleets = []
            for kind in self._worker_kinds:
                folder = self._folder / kind.name.replace(" ", "_")
                folder.mkdir()
                bench = stack.enter_context(Bench(CORES[: kind.workers]))
                generator = stack.enter_context(Generator(bench, folder))
                stage = Stage(bench, generator, self._plan.seconds, folder)
                relay = stack.enter_context(Relay(kind, bench, folder))
                fleet = scenarios.allocations(stage, relay, WORKERS_FLOWS)[0]
                stack.callback(fleet.close)
                fleets.append((stage, fleet))
            for round_ in range(self._plan.rounds):
                for stage, fleet in _in_turn(fleets, round_):
                    fleet.keep()
                    figures = scenarios.circulation(stage, fleet, SMALL, IN_FLIGHT)
                    key = f"{WORKERS}, {SMALL} B, {WORKERS_FLOWS} flows"
                    self._add(key, fleet.relay.name, round_, figures)

    def _scenarios(self, flows: int) -> list[Scenario]:
        starts = ("",) if self._again is None else tuple(self._again)
        return [one for one in udp_scenarios(self._plan, flows) if one.key.startswith(starts)]

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
        # The sockets stay open to the end: a port that ended an allocation is not used again at once.
        done: list[Fleet] = []
        for round_ in range(self._plan.rounds):
            for relay in _in_turn(relays, round_):
                fleet, figures = scenarios.allocations(self._stage(relay), relay, self._plan.allocations)
                figures.pop("kib_per_allocation")  # memory that earlier rounds gave back is used again
                fleet.release()
                done.append(fleet)
                self._add("allocations", relay.name, round_, figures)
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
