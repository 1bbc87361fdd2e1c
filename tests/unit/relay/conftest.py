"""A userspace plane on loopback, under both event loops, with its packets moved by C and by Python."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop
from support.native import build_mover
from turnrelay.relay.mover import PacketMover
from turnrelay.relay.plane import RelayHost
from turnrelay.relay.userspace import UserspacePlane
from unit.relay.loopback import V4, V6, Clock, FakeBandwidthPolicy, FakeLinks, Relays, free_ports


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The plane hangs on the loop's readers, so it is tried on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["python", "c"])
def mover(request: pytest.FixtureRequest) -> str:
    if request.param == "c":
        build_mover()
    return str(request.param)


@pytest.fixture
async def new_relays(mover: str) -> AsyncIterator[Callable[..., Relays]]:
    """Makes planes on 127.0.0.1 (and ::1 if asked for); what the loop would only log fails the test."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    made: list[Relays] = []

    def make(hosts: tuple[RelayHost, ...] = (RelayHost(V4, V4),), number: int = 20, **how: Any) -> Relays:
        clock, links, bandwidth = Clock(), FakeLinks(), FakeBandwidthPolicy(**how)
        ports = free_ports(hosts[0].local, number)
        moving = PacketMover(loop, clock) if mover == "c" else None
        plane = UserspacePlane(loop, hosts, ports, bandwidth, links, clock, moving)
        made.append(Relays(plane, links, bandwidth, clock, ports, []))
        return made[-1]

    yield make
    for relays in made:
        for relay in list(relays.plane.relays):
            relays.plane.close(relay)
        if relays.plane.mover is not None:
            relays.plane.mover.close()
        for peer in relays.peers:
            peer.sock.close()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.fixture
def relays(new_relays: Callable[..., Relays]) -> Relays:
    return new_relays()


@pytest.fixture
def has_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((V6, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            pytest.skip("no IPv6 on the loopback")
        raise
