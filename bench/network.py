"""The bench's network: a client and a peer, each on a cable to the server, and who runs on which core."""

import json
import os
import resource
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.netns import Namespace, Network
from support.processes import Process

CLIENT, SERVER, PEER = "10.90.1.2", "10.90.1.1", "10.90.2.2"
SERVER_AT_PEER = "10.90.2.1"
PEER_PORT = 5000

SERVER_CORE, GENERATOR_CORE = 0, 1
NICENESS = -15
"""Of everything measured, relay and generator alike, so that what else runs here disturbs neither."""
_MODERATION_NS = 50_000
_MODERATED_TIMES = 200
"""Polls without a packet before an interface waits to be woken again: it must not poll all night."""


@dataclass(frozen=True)
class Interface:
    host: Namespace
    name: str
    mac: str
    napi: tuple[int, ...]
    """The threads that poll it: what arrives there is worked off in these, and their time is counted."""


class Bench:
    """Three hosts joined by veth, polled by threads of their own.

    Packets that a veth hands over are worked off in a softirq of whoever sent them, and would be counted as
    nobody's time or the wrong one's. With threaded NAPI a thread does it, which has a core and a schedstat.
    """

    def __init__(self, server_cores: Sequence[int] = (SERVER_CORE,)) -> None:
        """The server's interfaces are polled on its cores. With one core the cables' other ends are polled on
        the generator's; with two each cable has a core, for both of its ends."""
        self.server_cores = tuple(server_cores)
        self._network = Network()

    def __enter__(self) -> Self:
        os.sched_setaffinity(0, {GENERATOR_CORE})
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            self._build()
        except BaseException:
            self._network.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._network.close()

    def _build(self) -> None:
        network = self._network
        self.client, self.server, self.peer = (network.host(name) for name in ("client", "server", "peer"))
        ends = {}
        for host, there, here in ((self.client, CLIENT, SERVER), (self.peer, PEER, SERVER_AT_PEER)):
            ends[host.name] = network.connect(self.server, f"{here}/24", host, f"{there}/24")
            host.ip("route", "add", "default", "via", here)
        self.server.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.client.command("sysctl", "-qw", "net.ipv4.ip_local_port_range=1025 65535")
        self._name_to_peer = ends[self.peer.name][0]
        self.server_ends = [self._end(self.server, ends[host.name][0]) for host in (self.client, self.peer)]
        self.client_end = self._end(self.client, ends[self.client.name][1])
        self.peer_end = self._end(self.peer, ends[self.peer.name][1])
        self._introduce(self.server_ends[0], SERVER, self.client_end, CLIENT)
        self._introduce(self.server_ends[1], SERVER_AT_PEER, self.peer_end, PEER)

    def _end(self, host: Namespace, name: str) -> Interface:
        # A veth has NAPI once it does GRO, and uses it for what a sender without TSO gives it.
        host.command("ethtool", "-K", name, "gro", "on", "tso", "off")
        [link] = json.loads(host.command("ip", "-j", "link", "show", "dev", name))
        interface = Interface(host, name, link["address"], ())
        napi = self.poll_by_threads(interface, True)
        return Interface(host, name, link["address"], napi)

    @staticmethod
    def _introduce(here: Interface, here_ip: str, there: Interface, there_ip: str) -> None:
        here.host.ip("neighbour", "replace", there_ip, "lladdr", there.mac, "dev", here.name)
        there.host.ip("neighbour", "replace", here_ip, "lladdr", here.mac, "dev", there.name)

    def poll_by_threads(self, interface: Interface, threaded: bool) -> tuple[int, ...]:
        """Switches threaded polling. Returns the threads, pinned to their side's core."""
        before = _napi_threads(interface.name)
        path = f"/sys/class/net/{interface.name}/threaded"
        interface.host.command("sh", "-c", f"echo {int(threaded)} > {path}")
        if interface.host is not self.server:
            # As a card's interrupt moderation does: else a relay pays for waking this thread on another core
            # with every packet that it sends, and the slower it sends the more often.
            delay, times = (_MODERATION_NS, _MODERATED_TIMES) if threaded else (0, 0)
            for name, value in (("gro_flush_timeout", delay), ("napi_defer_hard_irqs", times)):
                command = f"echo {value} > /sys/class/net/{interface.name}/{name}"
                interface.host.command("sh", "-c", command)
        threads = tuple(sorted(_napi_threads(interface.name) - before))
        core = self._core_of(interface)
        for pid in threads:
            os.sched_setaffinity(pid, {core})
            # As softirqs do, and before the veth's 256 places are full.
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
        return threads

    def _core_of(self, interface: Interface) -> int:
        if len(self.server_cores) == 1:
            return self.server_cores[0] if interface.host is self.server else GENERATOR_CORE
        return self.server_cores[interface.host is self.peer or interface.name == self._name_to_peer]

    def threaded(self, on: bool) -> None:
        """Whether threads poll the interfaces. Latency is measured without, the usual way."""
        for name in ("client_end", "peer_end"):
            setattr(self, name, self._polled(getattr(self, name), on))
        self.server_ends = [self._polled(end, on) for end in self.server_ends]

    def _polled(self, end: Interface, on: bool) -> Interface:
        # Some kernels end the threads when they are switched off, others let them wait.
        return Interface(end.host, end.name, end.mac, self.poll_by_threads(end, on) or end.napi)

    def all_interfaces(self) -> list[Interface]:
        return [*self.server_ends, self.client_end, self.peer_end]

    def server_softirq_seconds(self) -> float:
        return sum(scheduled_seconds(pid) for end in self.server_ends for pid in end.napi)

    def generator_softirq_seconds(self) -> float:
        return sum(scheduled_seconds(pid) for end in (self.client_end, self.peer_end) for pid in end.napi)


def most_clients(relays: int) -> int:
    """How many each of so many relays may have: all of their sockets are open files of this process."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) // relays


@contextmanager
def awake() -> Iterator[None]:
    """Keeps both cores from halting: to wake one up costs a virtual machine more than to relay a packet, and
    how often that happens depends on what else runs here.

    An idle core that polls sees work without being interrupted; in a virtual machine an interrupt from
    another core can take 20 us, of the relay's time too. Where the kernel cannot do that, idle tasks run.
    """
    with ExitStack() as stack:
        if _can_poll_when_idle():
            latency = stack.enter_context(open("/dev/cpu_dma_latency", "wb", buffering=0))
            latency.write(struct.pack("i", 0))
        else:
            # It says itself that its session comes last, once that is its own.
            code = "open('/proc/self/autogroup', 'w').write('19')\nwhile True: pass"
            for core in (SERVER_CORE, GENERATOR_CORE):
                prefix = ["setsid", "taskset", "-c", str(core), "chrt", "--idle", "0"]
                stack.enter_context(Process([*prefix, sys.executable, "-c", code]))
        yield


def _can_poll_when_idle() -> bool:
    """Whether a core polls while nobody may wait for it to wake up (the kernel's PM QoS interface)."""
    if not Path("/dev/cpu_dma_latency").exists():
        return False
    with suppress(OSError):
        return Path("/sys/devices/system/cpu/cpu0/cpuidle/state0/name").read_text().strip() == "POLL"
    return False


def prefer(pid: int) -> None:
    """Gives a session (setsid) more of the core than others: where sessions are scheduled as groups, niceness
    counts only inside of one."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS))


def _napi_threads(interface: str) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if (entry / "comm").read_text().startswith(f"napi/{interface}-"):
                    found.add(int(entry.name))
    return found


def scheduled_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, to the nanosecond: ticks miss what sleeps between them."""
    total = 0
    with suppress(OSError):  # a thread that ended in between
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9
