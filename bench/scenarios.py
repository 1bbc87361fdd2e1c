"""What is measured: each function offers one load to one relay and returns the figures of one sample."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.clients import Fleet
from bench.generator import Generator, Load, to_peer_directly
from bench.network import GENERATOR_CORE, PEER, Bench
from bench.relays import Relay
from bench.streams import StreamFleet

Figures = dict[str, Any]
_FIRST_RATE, _LOWEST_RATE = 100_000.0, 5_000.0
_TOLERATED_LOSS = 0.01
_NO_ACCIDENT = 0.1
"""A loss that no other program's doings explain: the rate is not tried again."""
_PROBE = 0.6
"""Of a measurement's time goes to each rate that is tried."""
_WARM_UP = 0.2


@dataclass(frozen=True)
class Stage:
    """What the scenarios run on."""

    bench: Bench
    generator: Generator
    seconds: float
    folder: Path


def fixed_rate(stage: Stage, fleet: Fleet, payload: int, rate: float, *, echo: bool = False) -> Figures:
    """CPU per relayed packet at a rate that the relays can carry. An echo is relayed twice."""
    stage.generator.use(fleet.channel_frames(payload))
    _remind(stage, fleet, payload)
    return _measured(stage, fleet.relay, payload, rate, echo)


def _remind(stage: Stage, fleet: Fleet, payload: int) -> None:
    """A packet of each flow there and back: a plane may have forgotten, meanwhile, where they go."""
    rate = _FIRST_RATE / 5
    stage.generator.run(payload, rate, max(0.1, 1.1 * len(fleet.clients) / rate), echo=True)


def send_indications(stage: Stage, fleet: Fleet, payload: int, rate: float) -> Figures:
    stage.generator.use(fleet.send_frames(payload))
    return _measured(stage, fleet.relay, payload, rate, False)


def flood(stage: Stage, fleet: Fleet, payload: int, rate: float) -> Figures:
    """What still comes through when far more is offered than a relay in userspace can carry."""
    stage.generator.use(fleet.channel_frames(payload))
    _remind(stage, fleet, payload)
    return _measured(stage, fleet.relay, payload, rate, False)


def highest_rate(stage: Stage, fleet: Fleet, payload: int, resolution: float) -> Figures:
    """The highest rate with under 1 % loss: raised until it fails, then found by bisection."""
    stage.generator.use(fleet.channel_frames(payload))
    # An earlier round tells where to look.
    rate, step = (fleet.highest_rate, 1.2) if fleet.highest_rate else (_FIRST_RATE, 2.0)
    low, high = 0.0, math.inf
    tried: list[Figures] = []
    best: Figures = {}
    while not low or high / low > resolution:
        figures, passed = _passes(stage, fleet, payload, rate)
        tried.append({"rate": rate, "passed": passed, "loss": figures["loss"]})
        if passed:
            low, best = rate, figures
        else:
            high = rate
        if high == math.inf:
            rate *= step
        elif low:
            rate = (low * high) ** 0.5
        elif rate < _LOWEST_RATE:
            break
        else:
            rate /= step
    fleet.highest_rate = low
    return {"packets_per_second": 0.0, **best, "tried": tried}


def _passes(stage: Stage, fleet: Fleet, payload: int, rate: float) -> tuple[Figures, bool]:
    """Tries a rate, and again where something else on the machine may have disturbed it."""
    for _ in range(2):
        figures = _measured(stage, fleet.relay, payload, rate, False, stage.seconds * _PROBE)
        load = figures["load"]
        loss = 1 - load["peer_in_time"] / max(load["offered"], 1)
        if loss < _TOLERATED_LOSS and load["offered"] >= 0.98 * rate * load["seconds"]:
            return figures, True
        if loss > _NO_ACCIDENT:
            break
    return figures, False


def circulation(stage: Stage, fleets: Sequence[Fleet], payload: int, in_flight: int) -> Figures:
    """Packets that go round and round: as many a second as the relay moves. Nobody has to offer them, so all
    that the load takes of the machine is the polling of the interfaces at its two ends."""
    bench, generator = stage.bench, stage.generator
    frames = zip(*(fleet.channel_frames(payload) for fleet in fleets), strict=True)
    generator.use([frame for of_each in frames for frame in of_each])
    generator.circle(payload, in_flight)
    time.sleep(_WARM_UP)
    before = _account(stage, fleets)
    time.sleep(stage.seconds)
    took, relayed, relay_cpu, load_cpu = (
        now - then for now, then in zip(_account(stage, fleets), before, strict=True)
    )
    # What the load takes of the relay's cores, it lacks.
    cores = len(bench.server_cores) - (load_cpu / took if GENERATOR_CORE in bench.server_cores else 0.0)
    return {
        "packets_per_second": relayed / took,
        "packets_per_second_and_core": relayed / took / cores,
        "cpu_us_per_packet": relay_cpu * 1e6 / max(relayed, 1),
        "relay_cores": relay_cpu / took,
        "load_cores": load_cpu / took,
        "cores": cores,
        "lost": in_flight - generator.rest(),
    }


def _account(stage: Stage, fleets: Sequence[Fleet]) -> tuple[float, float, float, float]:
    """Now, the packets that came to either end so far, and the CPU of the relays and of the load."""
    now, relayed = time.perf_counter(), sum(stage.generator.count())
    relays_cpu = sum(fleet.relay.process_seconds() for fleet in fleets) + stage.bench.server_softirq_seconds()
    return now, relayed, relays_cpu, stage.bench.generator_softirq_seconds()


def ping_pong(stage: Stage, fleet: Fleet, payload: int, count: int) -> Figures:
    """Round trips through the relay to an echoing peer and back, one packet in flight."""
    stage.generator.use(fleet.channel_frames(payload))
    stage.bench.threaded(False)
    try:
        stage.generator.ping(payload, 200)
        trips, lost = stage.generator.ping(payload, count)
    finally:
        stage.bench.threaded(True)
    if len(trips) < 2:
        return {"lost": lost}
    hundredths = statistics.quantiles(trips, n=100)
    return {"p50_us": statistics.median(trips) / 1e3, "p99_us": hundredths[98] / 1e3, "lost": lost}


def allocations(stage: Stage, relay: Relay, count: int) -> tuple[Fleet, Figures]:
    """Challenge, Allocate, CreatePermission, ChannelBind: the relay's CPU for each client, and its memory."""
    fleet = Fleet(stage.bench, relay, count)
    memory, cpu, start = relay.resident_bytes(), relay.cpu_seconds(), time.perf_counter()
    fleet.allocate(permissions=True)
    took, cpu = time.perf_counter() - start, relay.cpu_seconds() - cpu
    return fleet, {
        "cpu_us_per_allocation": cpu * 1e6 / count,
        "allocations_per_second_of_cpu": count / cpu,
        "observed_per_second": count / took,
        "kib_per_allocation": (relay.resident_bytes() - memory) / 1024 / count,
    }


def stream(stage: Stage, fleet: StreamFleet, payload: int, rate: float) -> Figures:
    """Over TCP or TLS; the peer is reached by UDP as ever."""
    relay, generator = fleet.relay, stage.generator
    generator.use(to_peer_directly(256))
    at_start, cpu = generator.count()[0], relay.cpu_seconds()
    load = fleet.run(payload, rate, stage.seconds)
    time.sleep(0.15)
    relayed, cpu = generator.count()[0] - at_start, relay.cpu_seconds() - cpu
    return {
        "cpu_us_per_packet": cpu * 1e6 / max(relayed, 1),
        "packets_per_second": relayed / load.seconds,
        "loss": 1 - relayed / max(load.offered, 1),
        "load": asdict(load),
    }


def stream_to_clients(stage: Stage, fleet: StreamFleet, payload: int, rate: float) -> Figures:
    """From a peer to clients over TCP or TLS."""
    cpu = fleet.relay.cpu_seconds()
    load = fleet.run_to_clients(payload, rate, stage.seconds)
    cpu = fleet.relay.cpu_seconds() - cpu
    return {
        "cpu_us_per_packet": cpu * 1e6 / max(load.at_clients, 1),
        "packets_per_second": load.at_clients / load.seconds,
        "loss": 1 - load.at_clients / max(load.offered, 1),
        "load": asdict(load),
    }


def forwarding(stage: Stage, payload: int, rate: float, flows: int) -> Figures:
    """The same packets forwarded by the server's kernel: what the generator can offer and count."""
    stage.generator.use(to_peer_directly(flows), destination=PEER)
    cpu = stage.bench.server_softirq_seconds()
    load = stage.generator.run(payload, rate, stage.seconds)
    return _figures(
        load, stage.bench.server_softirq_seconds() - cpu, load.at_peer, load.peer_in_time, payload
    )


def _measured(
    stage: Stage, relay: Relay, payload: int, rate: float, echo: bool, seconds: float | None = None
) -> Figures:
    process, cpu = relay.process_seconds(), relay.cpu_seconds()
    load = stage.generator.run(payload, rate, seconds or stage.seconds, echo=echo)
    process, cpu = relay.process_seconds() - process, relay.cpu_seconds() - cpu
    relayed = load.at_peer + (load.at_client if echo else 0)
    in_time = load.peer_in_time + (load.client_in_time if echo else 0)
    figures = _figures(load, cpu, relayed, in_time, payload)
    figures["process_us_per_packet"] = process * 1e6 / max(relayed, 1)
    if echo:
        figures["loss"] = 1 - load.at_client / max(load.offered, 1)
    return figures


def _figures(load: Load, cpu: float, relayed: int, in_time: int, payload: int) -> Figures:
    return {
        "cpu_us_per_packet": cpu * 1e6 / max(relayed, 1),
        "packets_per_second": in_time / load.seconds,
        "megabits_per_second": in_time * payload * 8 / load.seconds / 1e6,
        "loss": 1 - load.at_peer / max(load.offered, 1),
        "offered_per_second": load.offered / load.seconds,
        "headroom": load.headroom,
        "load": asdict(load),
    }
