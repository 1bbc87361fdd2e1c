"""A flow that changes planes, and one whose process no longer runs."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

import pytest
from planes.lab import CLIENT, PEER, PLANES, RELAY, SERVER, Hosts, drain
from planes.turn_socket import udp_socket
from support.netns import Network
from support.processes import Process

CHANNEL = 0x4001
SCRIPT = Path(__file__).with_name("plane_process.py")
LARGEST_DISORDER = 64
"""Places that a packet may come too late: what the sockets held when the kernel took over."""
ON_THE_WAY = 60
"""Packets each way that may be under way: a process that has to wait for its core has room for so many."""


class Flow:
    """Both ends of the one channel."""

    def __init__(self, process: Process, client: socket, peer: socket) -> None:
        self.process = process
        self.client = client
        self.peer = peer
        process.wait_until(lambda: process.output().rstrip().split("\n")[-1].isdigit())
        self.relay = (RELAY[4], int(process.output().split()[-1]))
        client.connect((SERVER[4], 3478))

    def exchange(self, number: int) -> None:
        """A numbered packet each way."""
        data = number.to_bytes(4, "big")
        self.client.send(CHANNEL.to_bytes(2, "big") + b"\x00\x04" + data)
        self.peer.sendto(data, self.relay)

    def arrived(self, least: int = 0) -> tuple[list[int], list[int]]:
        """At the peer, at the client; waits a while for so many."""
        return (
            [int.from_bytes(data, "big") for data in drain(self.peer, least)],
            [int.from_bytes(frame[4:], "big") for frame in drain(self.client, least)],
        )


@contextmanager
def running(plane: str, lifetime: float) -> Iterator[Flow]:
    with Network() as network:
        hosts = Hosts(network, PLANES[plane])
        with udp_socket(CLIENT[4], hosts.client) as client, udp_socket(PEER[4], hosts.peer) as peer:
            ends = [CLIENT[4], client.getsockname()[1], PEER[4], peer.getsockname()[1]]
            argv = [sys.executable, SCRIPT, SERVER[4], RELAY[4], *map(str, ends), str(lifetime)]
            with Process(argv, namespace=hosts.server) as process:
                yield Flow(process, client, peer)


@pytest.mark.parametrize("plane", ["native", "tcx"])
def test_a_change_of_planes_loses_nothing_and_doubles_nothing(kernel_program, plane):
    with running(plane, lifetime=60) as flow:
        at_peer, at_client = flow.arrived()
        for number in range(8000):
            flow.exchange(number)
            if number % 1000 == 500:
                flow.process.signal(signal.SIGUSR1 if number // 1000 % 2 else signal.SIGUSR2)
            time.sleep(0.0001)
            most = ON_THE_WAY if number < 7999 else 0
            patience = time.monotonic() + 5
            while number + 1 - min(len(at_peer), len(at_client)) > most and time.monotonic() < patience:
                for arrived, new in zip((at_peer, at_client), flow.arrived(), strict=True):
                    arrived += new
        time.sleep(0.5)
        for numbers, late_ones in zip((at_peer, at_client), flow.arrived(), strict=True):
            numbers += late_ones
            assert len(numbers) == len(set(numbers)), "packets came twice"
            assert sorted(numbers) == list(range(8000)), "packets were lost"
            late = max(seen - number for seen, number in zip(_highest(numbers), numbers, strict=True))
            assert late <= LARGEST_DISORDER


def _highest(numbers: list[int]) -> Iterator[int]:
    highest = 0
    for number in numbers:
        highest = max(highest, number)
        yield highest


@pytest.mark.parametrize("plane", ["native", "tcx"])
def test_a_stopped_process_relays_until_the_grant_expires_and_no_longer(kernel_program, plane):
    lifetime, before, after = 5.0, 2.5, 6.0  # the grant is older than the test's own clock
    with running(plane, lifetime) as flow:
        start = time.monotonic()
        for number in range(3):
            flow.exchange(number)
            time.sleep(0.1)
        assert flow.arrived(3) == ([0, 1, 2], [0, 1, 2])
        flow.process.signal(signal.SIGSTOP)
        times: dict[int, float] = {}
        for number in range(3, 300):
            times[number] = time.monotonic() - start
            flow.exchange(number)
            time.sleep(0.02)
            if times[number] > after:
                break
        flow.process.signal(signal.SIGKILL)  # it would not hear of anything else
        for numbers in flow.arrived():
            relayed = [times[number] for number in numbers if number in times]
            assert before < max(relayed) < lifetime + 0.2
            passed = [number for number, when in times.items() if when < before]
            assert set(passed) <= set(numbers)
