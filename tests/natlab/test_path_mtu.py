"""Packets grow to what a route of real kernels carries, and no kernel has to cut one in two."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.netns import Namespace, Network
from support.requirements import require_root_and_netns

from bench.sdk_messages import OURS, Pair
from natlab.lab.capture import Capture
from natlab.lab.devices import sysctl

_UDP = 17
_HEADERS = 28
"""Bytes of IPv4 and UDP."""


class Route(Network):
    """Two hosts with a router between them; what lies behind the router carries `mtu` bytes of IP."""

    def __init__(self, mtu: int) -> None:
        super().__init__()
        self.hosts = self.host("sender"), self.host("receiver")
        router = self.host("router")
        sysctl(router, {"ipv4/ip_forward": 1})
        self.connect(self.hosts[0], "10.92.1.1/24", router, "10.92.1.254/24")
        ends = self.connect(router, "10.92.2.254/24", self.hosts[1], "10.92.2.1/24")
        for host, device in zip((router, self.hosts[1]), ends, strict=True):
            host.ip("link", "set", device, "mtu", str(mtu))
        for number, host in enumerate(self.hosts, 1):
            host.ip("route", "add", "default", "via", f"10.92.{number}.254")
        self.narrow: tuple[Namespace, str] = router, ends[0]


@contextmanager
def seen(route: Route) -> Iterator[list[bytes]]:
    """The IPv4 packets that cross the narrow part; complete when the block is left."""
    packets: list[bytes] = []
    with Capture(*route.narrow) as capture:
        yield packets
    packets += [packet for packet in capture.ip_packets() if packet[0] >> 4 == 4 and packet[9] == _UDP]


@pytest.mark.parametrize(("mtu", "found"), [(1500, 1452), (1400, 1332)])
async def test_packets_fill_the_narrowest_part_of_a_route_whole(
    monkeypatch: pytest.MonkeyPatch, mtu: int, found: int
) -> None:
    require_root_and_netns()
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tests, tests.parent))))
    with Route(mtu) as route:
        pair = await Pair.connect(route, OURS)
        try:
            largest = 0
            for _ in range(20):  # the size is looked for while they talk
                await pair.converse(1000, 0.2)
                with seen(route) as packets:
                    await pair.converse(1000, 0.2)
                cut = [packet for packet in packets if int.from_bytes(packet[6:8], "big") & 0x3FFF]
                assert not cut
                largest = max(map(len, packets), default=0)
                if largest >= found + _HEADERS:
                    break
        finally:
            await pair.stop()
    assert largest == found + _HEADERS
