"""Several workers write their flows into the same maps: one plane, and each flow ends with its worker."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import psutil
import pytest
from planes.lab import PLANES, Lab, drain, lab
from planes.turn_socket import TurnSocket
from stunwire import TransportAddress
from support.netns import inside
from turnrelay.relay.kernel.layouts import Leg, leg_key
from turnrelay.workers.kernel import SharedKernel

QUIET = 0.3
PATIENCE = 20.0
IN_KERNEL = ("native", "tcx")


@pytest.fixture(scope="module", params=IN_KERNEL)
def it(request, kernel_program, tmp_path_factory) -> Iterator[Lab]:
    with lab(PLANES[request.param], tmp_path_factory.mktemp("lab"), ("--workers", "2")) as made:
        yield made


def workers(it: Lab) -> dict[int, int]:
    """The number and the process of each worker, as the log told them last."""
    lines = it.server.process.output().split("\n")[:-1]  # the last one may still be on its way
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return {line["worker"]: line["pid"] for line in told if line["event"] == "worker serves"}


def worker_of(it: Lab, turn: TurnSocket) -> int:
    with inside(it.hosts.server):
        for member, pid in workers(it).items():
            if tuple(turn.relayed) in [
                tuple(each.laddr) for each in psutil.Process(pid).net_connections("udp")
            ]:
                return member
    raise AssertionError(f"nobody has {turn.relayed} open")


def client_of_each(it: Lab, stack: ExitStack) -> dict[int, TurnSocket]:
    found: dict[int, TurnSocket] = {}
    for _ in range(100):
        turn = stack.enter_context(it.turn())
        found.setdefault(worker_of(it, turn), turn)
        if len(found) == 2:
            return found
    raise AssertionError("the system sends every client to one worker")


@contextmanager
def without_processes(it: Lab) -> Iterator[None]:
    """While all of them are stopped, only the kernel can move anything."""
    pids = [it.server.process.pid, *workers(it).values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_kernel_carries_the_flows_of_every_worker_and_each_packet_counts_once(it: Lab):
    before = it.relayed()
    with ExitStack() as stack:
        far = stack.enter_context(it.peer())
        clients = client_of_each(it, stack)
        relays = {}
        for member, turn in clients.items():
            channel = turn.bind(far.getsockname())
            turn.send(channel, b"learn")
            _, relays[member] = far.recvfrom(100)
            far.sendto(b"learn", relays[member])
            turn.receive()
        with without_processes(it):
            for number in range(20):
                for member, turn in clients.items():
                    turn.send(channel, b"%d" % number)
                    far.sendto(b"%d" % number, relays[member])
            time.sleep(QUIET)
            expected = [b"%d" % number for number in range(20)]
            assert sorted(drain(far, 40)) == sorted(expected * 2)
            at_clients = [[data[4:] for data in drain(turn.sock, 20)] for turn in clients.values()]
            assert at_clients == [expected] * 2
        size = 2 * (len(b"learn") + sum(map(len, expected)))
        it.wait_until_relayed(before, (42, size, 42, size))


def test_shares_of_the_maps_are_apart_and_a_dead_workers_legs_are_deleted(kernel):
    shared = SharedKernel(SimpleNamespace(kernel=kernel), 3, accounts=4)  # type: ignore[arg-type]
    shares = [shared.share(member) for member in range(4)]
    slots = [slot for share in shares for first in share.slots for slot in (first, first + 1)]
    buckets = [number for share in shares for number in share.buckets]
    assert len(set(slots)) == len(slots) == 126
    assert max(slots) < kernel.counters.max_entries
    assert sorted(buckets) == list(range(1, 13))
    assert [share.tells_totals for share in shares] == [True, False, False, False]
    keys = {}
    for member in (1, 2):
        slot = shares[member].slots[0]
        keys[member] = leg_key(TransportAddress("10.0.0.1", member), TransportAddress("10.0.0.2", 1), 0)
        shares[member].note(slot, keys[member])
        kernel.legs.set(keys[member], Leg(slot=slot))
    shared.forget(1)
    assert kernel.legs.get(keys[1]) is None
    assert kernel.legs.get(keys[2]) is not None
    shared.forget(2)
    assert kernel.legs.get(keys[2]) is None


def test_clients_of_two_workers_reach_each_other_in_the_kernel(it: Lab):
    with ExitStack() as stack:
        one, other = client_of_each(it, stack).values()
        there, back = one.bind(tuple(other.relayed)), other.bind(tuple(one.relayed))
        for _ in range(2):
            one.send(there, b"learn")
            other.receive()
            other.send(back, b"learn")
            one.receive()
        with without_processes(it):
            one.send(there, b"there")
            assert other.receive() == (back, b"there")
            other.send(back, b"and back")
            assert one.receive() == (there, b"and back")


def test_the_flows_of_a_killed_worker_end_and_no_others(it: Lab):
    with ExitStack() as stack:
        far, clients = stack.enter_context(it.peer()), client_of_each(it, stack)
        channel, relays = 0, {}
        for member, turn in clients.items():
            channel = turn.bind(far.getsockname())
            turn.send(channel, b"learn")
            _, relays[member] = far.recvfrom(100)
            far.sendto(b"learn", relays[member])
            turn.receive()
        before = workers(it)
        os.kill(before[1], signal.SIGKILL)
        for number in range(200):
            clients[2].send(channel, b"%d" % number)
            time.sleep(0.001)
        eventually(lambda: workers(it)[1] != before[1], "the worker does not come back")
        time.sleep(QUIET)
        assert drain(far, 200) == [b"%d" % number for number in range(200)]
        clients[1].send(channel, b"of the dead")
        far.settimeout(QUIET)
        with pytest.raises(TimeoutError):
            far.recv(100)
        far.settimeout(PATIENCE)
        clients[2].send(channel, b"of the living")
        assert far.recv(100) == b"of the living"
        with without_processes(it):
            far.sendto(b"to the dead", relays[1])
            far.sendto(b"to the living", relays[2])
            assert clients[2].receive() == (channel, b"to the living")
            assert drain(clients[1].sock) == []


def test_the_bandwidth_of_a_user_is_one_for_the_kernel_and_all_workers(kernel_program, tmp_path):
    limit, burst = 40_000, 65_536  # bytes a second; the smallest burst
    config = tmp_path / "turnrelay.toml"
    config.write_text(f"[limits]\nbandwidth_per_user = {limit}\n")
    flags = ("--workers", "2", "--config", str(config))
    with lab(PLANES["native"], tmp_path, flags) as limited, ExitStack() as stack:
        far, clients = stack.enter_context(limited.peer()), client_of_each(limited, stack)
        channels = {turn: turn.bind(far.getsockname()) for turn in clients.values()}
        for turn, channel in channels.items():
            turn.send(channel, b"learn")
            far.recv(100)
        start = time.monotonic()
        for _ in range(200):
            for turn, channel in channels.items():
                turn.send(channel, bytes(1000))
            time.sleep(0.003)
        took = time.monotonic() - start
        time.sleep(QUIET)
        arrived = sum(map(len, drain(far)))
        assert burst - 2000 <= arrived <= burst + limit * (time.monotonic() - start) + 2000

        def in_kernel() -> float:
            page = limited.server.scrape()
            return page.total("turnrelay_relayed_packets_total", plane="xdp", direction="to_peer")

        eventually(lambda: in_kernel() >= arrived // 1000, "a process moved some")

        # Who leaves and comes back finds what was left.
        for turn in clients.values():
            turn.close()
        with limited.turn() as again:
            channel = again.bind(far.getsockname())
            for _ in range(50):
                again.send(channel, bytes(1000))
            time.sleep(QUIET)
            assert sum(map(len, drain(far))) <= limit * (time.monotonic() - start - took) + 2000


def test_everything_is_detached_when_the_supervisor_is_killed(kernel_program, tmp_path):
    with lab(PLANES["native"], tmp_path, ("--workers", "2")) as it:
        show = ("ip", "-d", "link", "show", it.hosts.interfaces[0])
        assert "xdp" in it.hosts.server.command(*show)
        it.server.process.signal(signal.SIGKILL)
        it.server.process.stop()
        eventually(lambda: "xdp" not in it.hosts.server.command(*show), "a program is left")
