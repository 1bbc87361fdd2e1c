"""Lab: a client, a relay and a peer on hosts of their own, and the plane that moves packets between them."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from planes.turn_socket import TurnSocket, udp_socket
from stunwire import AddressFamily
from support.netns import Namespace, Network, add_address
from support.relay import Access, Site
from support.requirements import require_program
from support.turnrelay_server import TurnRelayServer

PORT = 3478


@dataclass(frozen=True)
class Plane:
    """A flag of the server, and what veth has to offer: that is what decides between the kernel's modes."""

    flag: str
    mode: str
    """As the log names it; empty for userspace."""
    gro: bool = False
    """The other ends take frames from XDP."""
    finished: bool = False
    """Senders compute checksums instead of leaving them to a device."""
    mover: str = "c"
    """What moves packets in userspace."""


PLANES = {
    "userspace": Plane("userspace", ""),
    "userspace, Python alone": Plane("userspace", "", mover="python"),
    "native": Plane("xdp", "native", gro=True),
    "tcx": Plane("xdp", "tcx", finished=True),
    "tcx, checksums left to devices": Plane("xdp", "tcx"),
}

CLIENT = {4: "10.88.1.2", 6: "fd88:1::2"}
SERVER = {4: "10.88.1.1", 6: "fd88:1::1"}
RELAY = {4: "10.88.2.1", 6: "fd88:2::1"}
PEER = {4: "10.88.2.2", 6: "fd88:2::2"}
FAMILY = {4: AddressFamily.IPV4, 6: AddressFamily.IPV6}
ACCESS = Access(allowed_peers=("10.88.0.0/16", "fd88::/16"))


class Hosts:
    """Three hosts: the relay between client and peer."""

    def __init__(self, network: Network, plane: Plane) -> None:
        self.client = network.host("client")
        self.server = network.host("server")
        self.peer = network.host("peer")
        self.interfaces = (
            self._cable(network, SERVER, self.client, CLIENT, plane),
            self._cable(network, RELAY, self.peer, PEER, plane),
        )
        for net, via in (("10.88.1.0/24", RELAY[4]), ("fd88:1::/64", RELAY[6])):
            self.peer.ip("route", "add", net, "via", via)

    def _cable(
        self, network: Network, near: dict[int, str], other: Namespace, far: dict[int, str], plane: Plane
    ) -> str:
        ours, theirs = network.connect(self.server, f"{near[4]}/24", other, f"{far[4]}/24")
        add_address(self.server, ours, f"{near[6]}/64")
        add_address(other, theirs, f"{far[6]}/64")
        ethtool = require_program("ethtool")
        if plane.gro:
            other.command(ethtool, "-K", theirs, "gro", "on")
        if plane.finished:
            other.command(ethtool, "-K", theirs, "tx", "off")
        return ours


class Lab:
    """A running relay on a plane."""

    def __init__(self, hosts: Hosts, server: TurnRelayServer, plane: Plane) -> None:
        self.hosts = hosts
        self.server = server
        self.plane = plane

    def turn(self, family: int = 4, peer_family: int = 4) -> TurnSocket:
        return TurnSocket(
            (SERVER[family], PORT), ACCESS, CLIENT[family], self.hosts.client, FAMILY[peer_family]
        )

    def peer(self, family: int = 4) -> socket.socket:
        return udp_socket(PEER[family], self.hosts.peer)

    def relayed(self) -> tuple[int, int, int, int]:
        """Packets and bytes to peers, and from them, for UDP clients."""
        page = self.server.scrape()
        return tuple(  # type: ignore[return-value]
            int(page.total(f"turnrelay_relayed_{what}_total", direction=direction, transport="udp"))
            for direction in ("to_peer", "from_peer")
            for what in ("packets", "bytes")
        )

    def drops(self, reason: str | None = None) -> float:
        """Packets that were not relayed, whatever the reason or for this one."""
        labels = {"reason": reason} if reason else {}
        return self.server.scrape().total("turnrelay_dropped_packets_total", **labels)

    def wait_until_relayed(self, before: tuple[int, int, int, int], more: tuple[int, int, int, int]) -> None:
        """Fails unless exactly so much is counted in a while."""
        expected = tuple(map(sum, zip(before, more, strict=True)))
        deadline = time.monotonic() + 20
        while (relayed := self.relayed()) != expected:
            assert time.monotonic() < deadline, (relayed, expected)
            time.sleep(0.1)


@contextmanager
def lab(plane: Plane, folder: Path, flags: tuple[str, ...] = ()) -> Iterator[Lab]:
    with ExitStack() as stack:
        hosts = Hosts(stack.enter_context(Network()), plane)
        site = Site.prepare(folder, SERVER[4], SERVER[6], RELAY[4], RELAY[6], namespace=hosts.server)
        server = TurnRelayServer(site, ACCESS, flags=["--plane", plane.flag, "--mover", plane.mover, *flags])
        stack.enter_context(server)
        if plane.mode:
            assert f'"mode": "{plane.mode}"' in server.process.output(), server.process.output()
        yield Lab(hosts, server, plane)


def drain(sock: socket.socket, least: int = 0, within: float = 10.0) -> list[bytes]:
    """What has arrived and nobody has read; waits for packets as long as there are fewer than `least`."""
    sock.setblocking(False)
    found: list[bytes] = []
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(sock.recv(65535))
        if len(found) >= least or time.monotonic() > deadline:
            return found
        time.sleep(0.01)
