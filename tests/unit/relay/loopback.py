"""What a userspace plane needs around it: peers that are sockets, clients that note what they are sent."""

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stunwire import TransportAddress
from turnrelay.core.addresses import ClientAddress, FiveTuple, PeerAddress, ServerAddress, Transport
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.userspace import UserspacePlane

V4, V6 = "127.0.0.1", "::1"
SOON = 10.0
"""Seconds within which a packet crosses the loopback, on a busy machine too."""


@dataclass
class FakeLink:
    """A client; `failure` is raised by its next sends."""

    padded: bool = False
    address: object = ("198.51.100.15", 40000)
    channels: dict[int, Any] = field(default_factory=dict)
    admitted: dict[int, Any] = field(default_factory=dict)
    frames: list[bytes] = field(default_factory=list)
    failure: OSError | None = None

    def sendto(self, frame: memoryview, address: object) -> int:
        assert address is self.address
        if self.failure is not None:
            raise self.failure
        self.frames.append(bytes(frame))
        return len(frame)


@dataclass
class FakeLinks:
    links: dict[FiveTuple, FakeLink] = field(default_factory=dict)
    released: list[FiveTuple] = field(default_factory=list)

    def link(self, path: FiveTuple) -> FakeLink | None:
        return self.links.get(path)

    def release(self, path: FiveTuple) -> None:
        self.released.append(path)


@dataclass
class FakeBandwidth:
    allocation: TokenBucket | None
    account: TokenBucket | None
    releases: int = 0

    def release(self) -> None:
        self.releases += 1


@dataclass
class FakeBandwidthPolicy:
    """No limits, unless the test sets bursts (nothing runs in again)."""

    burst: float | None = None
    accounts: dict[str, TokenBucket] = field(default_factory=dict)
    opened: list[FakeBandwidth] = field(default_factory=list)

    def open(self, account: str, now: float) -> FakeBandwidth:
        bucket = None if self.burst is None else TokenBucket(0, self.burst, now)
        self.opened.append(FakeBandwidth(bucket, self.accounts.get(account)))
        return self.opened[-1]


class Peer:
    """A UDP socket somewhere else."""

    def __init__(self, host: str = V4) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(TransportAddress(*self.sock.getsockname()[:2]))

    def send(self, data: bytes, to: TransportAddress) -> None:
        self.sock.sendto(data, tuple(to))

    async def receive(self) -> tuple[bytes, TransportAddress]:
        """The next datagram and where it came from."""
        datagrams: list[tuple[bytes, TransportAddress]] = []

        def arrived() -> bool:
            try:
                data, source = self.sock.recvfrom(65536)
            except BlockingIOError:
                return False
            datagrams.append((data, TransportAddress(*source[:2])))
            return True

        await until(arrived)
        return datagrams[0]

    async def hears_nothing(self) -> bool:
        await asyncio.sleep(0.05)
        try:
            self.sock.recvfrom(65536)
        except BlockingIOError:
            return True
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until `condition` holds; fails if it does not."""
    deadline = asyncio.get_running_loop().time() + SOON
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "nothing came"
        await asyncio.sleep(0.001)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def free_ports(host: str, number: int) -> tuple[int, int]:
    """The first and the last of a row of ports that nobody uses just now, beginning with an even one.

    They are below those that the system gives to everybody, for they are used a little later.
    """
    for first in range(random.randrange(20000, 32000, 2), 32700, number + number % 2):
        try:
            for port in range(first, first + number):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return first, first + number - 1
    raise AssertionError("no free ports")


@dataclass
class Relays:
    """A plane with what it depends on."""

    plane: UserspacePlane
    links: FakeLinks
    bandwidth: FakeBandwidthPolicy
    clock: Clock
    ports: tuple[int, int]
    peers: list[Peer]

    def peer(self, host: str = V4) -> Peer:
        self.peers.append(Peer(host))
        return self.peers[-1]

    def client(self, number: int = 0, transport: Transport = Transport.UDP) -> tuple[FiveTuple, FakeLink]:
        server = ServerAddress(TransportAddress("192.0.2.1", 3478))
        path = FiveTuple(transport, server, ClientAddress(TransportAddress("198.51.100.15", 40000 + number)))
        link = FakeLink(padded=transport is not Transport.UDP, address=("the client", number))
        self.links.links[path] = link
        return path, link
