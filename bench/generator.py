"""The load generator (load.c) as the scenarios use it."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.network import CLIENT, GENERATOR_CORE, NICENESS, PEER_PORT, SERVER, Bench, prefer

PROGRAM = Path(__file__).parent / "build" / "load"


@dataclass(frozen=True)
class Frame:
    """How the packets of one flow look: ports, and the bytes before the payload."""

    source_port: int
    destination_port: int
    prefix: bytes = b""


@dataclass(frozen=True)
class Load:
    """What was offered, what came through, and how hard the generator worked for it."""

    offered: int
    at_peer: int
    at_client: int
    peer_in_time: int
    """Of those at the peer what was there when the sending ended: queues hold more than one may think."""
    client_in_time: int
    flows_reached: int
    seconds: float
    generator_cpu: float
    """Without what it spent to find that nothing was due."""
    longest_gap: float
    """Seconds in which it did not run: what was due in them came as a burst."""
    softirq_cpu: float
    """Of the threads that poll the client's and the peer's interface, on the generator's core."""

    @property
    def headroom(self) -> float:
        """The share of its core that the generator left unused."""
        return max(0.0, 1 - (self.generator_cpu + self.softirq_cpu) / self.seconds)


class Generator:
    """A running `load`."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench = bench
        self._flows = folder / "flows"

    def __enter__(self) -> Self:
        bench = self._bench
        pinned = ["nice", "-n", str(NICENESS), "taskset", "-c", str(GENERATOR_CORE), str(PROGRAM)]
        ends = []
        for end in (bench.client_end, bench.peer_end):
            ends += [f"/run/netns/{end.host.name}", end.name]
        self._process = subprocess.Popen(
            pinned + ends,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._answer()
        prefer(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def use(self, frames: Sequence[Frame], destination: str = SERVER, mac: str | None = None) -> None:
        """Send these frames from now on, in turn."""
        bench = self._bench
        lines = [f"{mac or bench.server_ends[0].mac} {bench.client_end.mac} {CLIENT} {destination}"]
        lines += [
            f"{frame.source_port} {frame.destination_port} {frame.prefix.hex() or '-'}" for frame in frames
        ]
        self._flows.write_text("\n".join(lines) + "\n")
        self._ask(f"flows {self._flows}")

    def run(self, payload: int, rate: float, seconds: float, *, echo: bool = False) -> Load:
        """Offer `rate` packets a second, 0 for all it can."""
        before = self._bench.generator_softirq_seconds()
        answer = self._ask(f"run {'echo' if echo else 'oneway'} {payload} {rate} {seconds}")
        return Load(softirq_cpu=self._bench.generator_softirq_seconds() - before, **answer)

    def ping(self, payload: int, count: int) -> tuple[list[int], int]:
        """Round trips in nanoseconds, and how many were lost."""
        answer = self._ask(f"ping {payload} {count}")
        return answer["trips"], answer["lost"]

    def circle(self, payload: int, count: int) -> None:
        """Lets so many packets go round, from client to peer and back, without being offered again."""
        sent = self._ask(f"circle {payload} {count}")["sent"]
        if sent != count:
            raise RuntimeError(f"only {sent} of {count} packets could be sent")

    def rest(self) -> int:
        """Ends that. Returns how many were not lost."""
        left: int = self._ask("rest")["left"]
        return left

    def count(self) -> tuple[int, int]:
        """The packets that came to the peer and to the client so far, whoever sent them."""
        answer = self._ask("count")
        return answer["at_peer"], answer["at_client"]

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"load ended with {self._process.wait()}")
        return json.loads(line)


def to_peer_directly(flows: int) -> list[Frame]:
    """Frames that the server's kernel just forwards: what a relay could not beat in userspace."""
    return [Frame(10_000 + number, PEER_PORT) for number in range(flows)]
