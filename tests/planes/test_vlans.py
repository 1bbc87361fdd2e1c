"""VLANs, bonds and bridges with real traffic, on a kernel that has them; the others skip these tests."""

import itertools
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from planes.lab import ACCESS, CLIENT, FAMILY, PEER, PLANES, PORT, RELAY, SERVER, Hosts, drain
from planes.turn_socket import PATIENCE, TurnSocket, udp_socket
from support.netns import Namespace, Network, add_address
from support.relay import Site
from support.requirements import require_program
from support.turnrelay_server import TurnRelayServer

pytestmark = pytest.mark.slow
FAMILIES = list(itertools.product((4, 6), (4, 6)))
QUIET = 0.5
RXVLAN_OFF = "rxvlan off"


@dataclass(frozen=True)
class Trunk:
    """How packets come to the relay's addresses."""

    kind: str = "vlan"
    """What the addresses are on, at the relay."""
    tags_visible: bool = False
    """Both ends of the cables leave tags in the frames."""
    takes_frames: bool = False
    mode: str = "tcx"


TRUNKS = {
    "VLANs, tags beside the frames": Trunk(),
    "VLANs, tags in the frames": Trunk(tags_visible=True, takes_frames=True, mode="native"),
    "VLANs on a bridge": Trunk("vlan on bridge"),
    "bridge": Trunk("bridge"),
    "bond": Trunk("bond"),
    "VLANs on a bond": Trunk("vlan on bond"),
    "802.1ad": Trunk("802.1ad", tags_visible=True, takes_frames=True),
}


@pytest.fixture(scope="module", autouse=True)
def _vlans(kernel_program: None) -> None:
    with Network() as network:
        host = network.host("probe")
        try:
            host.ip("link", "add", "bond0", "type", "bond")
            host.ip("link", "add", "link", "bond0", "name", "bond0.5", "type", "vlan", "id", "5")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this kernel has no VLANs or bonds: {error.stderr.strip()}")


def ethtool(host: Namespace, device: str, *features: str) -> None:
    host.command(require_program("ethtool"), "-K", device, *features)


def add_vlan(host: Namespace, parent: str, number: int, protocol: str = "802.1Q") -> str:
    name = f"{parent}.{number}"
    host.ip(
        "link", "add", "link", parent, "name", name, "type", "vlan", "id", str(number), "protocol", protocol
    )
    host.ip("link", "set", name, "up")
    return name


class TrunkHosts:
    """Client, relay and peer, each pair joined by a cable with a VLAN of its own: 5 and 7."""

    def __init__(self, network: Network, trunk: Trunk) -> None:
        self.trunk = trunk
        self.client, self.server, self.peer = map(network.host, ("client", "server", "peer"))
        self.near: list[str] = []
        self.far: list[str] = []
        for number, (host, ours, theirs) in enumerate(
            ((self.client, SERVER, CLIENT), (self.peer, RELAY, PEER))
        ):
            self._cable(network, host, 5 + 2 * number, ours, theirs)
        for net, via in (("10.88.1.0/24", RELAY[4]), ("fd88:1::/64", RELAY[6])):
            self.peer.ip("route", "add", net, "via", via)

    def _cable(
        self, network: Network, host: Namespace, vlan: int, ours: dict[int, str], theirs: dict[int, str]
    ) -> None:
        trunk, number = self.trunk, len(self.near)
        near, far = f"near{number}", f"far{number}"
        self.server.ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", host.name)
        ethtool(host, far, "tx", "off", *(["txvlan", "off"] if trunk.tags_visible else []))
        if trunk.takes_frames:
            ethtool(host, far, "gro", "on")
        if trunk.tags_visible:
            ethtool(self.server, near, "rxvlan", "off")
        host.ip("link", "set", far, "up")
        self.near.append(near)
        self.far.append(far)
        if "bond" in trunk.kind or "bridge" in trunk.kind:
            near = self._master(near, number)
        self.server.ip("link", "set", near, "up")
        protocol = trunk.kind if trunk.kind.startswith("802") else "802.1Q"
        if trunk.kind not in ("bond", "bridge"):
            near, far = add_vlan(self.server, near, vlan, protocol), add_vlan(host, far, vlan, protocol)
        for family, length in ((4, 24), (6, 64)):
            add_address(self.server, near, f"{ours[family]}/{length}")
            add_address(host, far, f"{theirs[family]}/{length}")

    def _master(self, below: str, number: int) -> str:
        kind = "bond" if "bond" in self.trunk.kind else "bridge"
        name, options = f"{kind}{number}", ["mode", "active-backup", "miimon", "10"] if kind == "bond" else []
        self.server.ip("link", "add", name, "type", kind, *options)
        self.server.ip("link", "set", below, "master", name)
        self.server.ip("link", "set", below, "up")
        return name


@contextmanager
def relay(hosts, folder, flag: str = "xdp") -> Iterator[TurnRelayServer]:
    site = Site.prepare(folder, SERVER[4], SERVER[6], RELAY[4], RELAY[6], namespace=hosts.server)
    with TurnRelayServer(site, ACCESS, flags=["--plane", flag]) as server:
        yield server


@pytest.fixture(scope="module", params=TRUNKS)
def it(request, tmp_path_factory):
    with Network() as network:
        hosts = TrunkHosts(network, TRUNKS[request.param])
        with relay(hosts, tmp_path_factory.mktemp("relay")) as server:
            yield hosts, server


def turn_of(hosts, family: int = 4, peer_family: int = 4) -> TurnSocket:
    return TurnSocket((SERVER[family], PORT), ACCESS, CLIENT[family], hosts.client, FAMILY[peer_family])


def learn(turn: TurnSocket, far: socket.socket) -> tuple[int, tuple[str, int]]:
    """A channel whose next hops are known: its number, and the relayed address."""
    channel = turn.bind(far.getsockname()[:2])
    for _ in range(2):
        turn.send(channel, b"learn")
        _, relayed = far.recvfrom(100)
        far.sendto(b"learn", relayed)
        turn.receive()
    return channel, relayed


@contextmanager
def stopped(server: TurnRelayServer) -> Iterator[None]:
    """While the process is stopped, only the kernel can relay."""
    server.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.signal(signal.SIGCONT)


def test_the_mode_is_the_best_that_tells_vlans_apart(it):
    hosts, server = it
    assert f'"mode": "{hosts.trunk.mode}"' in server.process.output()
    unsafe = hosts.trunk.kind == "vlan" and not hosts.trunk.tags_visible
    assert (RXVLAN_OFF in server.process.output()) is unsafe


@pytest.mark.parametrize(("client", "peer"), FAMILIES)
def test_the_kernel_relays_both_ways_between_vlans(it, client, peer):
    hosts, server = it
    with turn_of(hosts, client, peer) as turn, udp_socket(PEER[peer], hosts.peer) as far:
        channel, relayed = learn(turn, far)
        everything = [b"%d" % number for number in range(20)]
        with stopped(server):
            for data in everything:
                turn.send(channel, data)
                far.sendto(data, relayed)
            time.sleep(QUIET)
            arrived = drain(far, 20), [frame[4:] for frame in drain(turn.sock, 20)]
        assert arrived == (everything, everything)


def test_two_clients_of_a_vlan_reach_each_other(it):
    hosts, server = it
    with turn_of(hosts) as one, turn_of(hosts) as other:
        there, back = one.bind(tuple(other.relayed)), other.bind(tuple(one.relayed))
        for _ in range(2):
            one.send(there, b"learn")
            assert other.receive() == (back, b"learn")
            other.send(back, b"learn")
            assert one.receive() == (there, b"learn")
        with stopped(server):
            one.send(there, b"hairpin")
            other.send(back, b"back")
            assert other.receive() == (back, b"hairpin")
            assert one.receive() == (there, b"back")


def test_what_other_vlans_send_is_not_relayed(it):
    """A stranger with the client's address and port, in another VLAN of the same cable, or with two tags."""
    hosts, _ = it
    if "vlan" not in hosts.trunk.kind:
        pytest.skip("there are no VLANs")
    with turn_of(hosts) as turn, udp_socket(PEER[4], hosts.peer) as far, Network() as network:
        channel, _ = learn(turn, far)
        mac = hosts.client.command("cat", f"/sys/class/net/{hosts.far[0]}.5/address").strip()
        our_mac = hosts.client.command("ip", "neigh", "show", SERVER[4]).split("lladdr ")[1].split()[0]
        for device in (f"{hosts.far[0]}.6", f"{hosts.far[0]}.5.9"):
            stranger = network.host("stranger")
            parent, _, number = device.rpartition(".")
            add_vlan(hosts.client, parent, int(number))
            hosts.client.ip("link", "set", device, "netns", stranger.name)
            stranger.ip("link", "set", device, "address", mac)
            add_address(stranger, device, f"{CLIENT[4]}/24")
            stranger.ip("link", "set", device, "up")
            stranger.ip("neigh", "add", SERVER[4], "lladdr", our_mac, "dev", device)
            with udp_socket(CLIENT[4], stranger, turn.sock.getsockname()[1]) as sock:
                for _ in range(20):
                    sock.sendto(channel.to_bytes(2, "big") + b"\x00\x05spoof", (SERVER[4], PORT))
        time.sleep(QUIET)
        assert drain(far) == []
        far.settimeout(PATIENCE)
        turn.send(channel, b"mine")
        assert far.recv(100) == b"mine"


def test_tags_that_native_xdp_cannot_see_make_it_let_go(tmp_path):
    """The relay is on the untagged network of a cable that carries VLANs too, and hears it by packets."""
    with Network() as network:
        hosts = Hosts(network, PLANES["native"])
        far = next(name for name in ("right0", "right1") if name in hosts.client.command("ip", "link"))
        with relay(hosts, tmp_path) as server:
            assert server.process.output().count('"mode": "native"') == 2
            with turn_of(hosts) as turn, udp_socket(PEER[4], hosts.peer) as peer:
                channel, _ = learn(turn, peer)
                stranger = network.host("stranger")
                device = add_vlan(hosts.client, far, 6)
                mac = hosts.client.command("cat", f"/sys/class/net/{far}/address").strip()
                our_mac = (
                    hosts.client.command("ip", "neigh", "show", SERVER[4]).split("lladdr ")[1].split()[0]
                )
                hosts.client.ip("link", "set", device, "netns", stranger.name)
                stranger.ip("link", "set", device, "address", mac)
                add_address(stranger, device, f"{CLIENT[4]}/24")
                stranger.ip("link", "set", device, "up")
                # Any packet of the VLAN, as every network has them.
                with udp_socket(CLIENT[4], stranger) as sock:
                    sock.sendto(b"who has?", ("10.88.1.77", 9))
                    time.sleep(QUIET)
                stranger.ip("neigh", "add", SERVER[4], "lladdr", our_mac, "dev", device)
                with udp_socket(CLIENT[4], stranger, turn.sock.getsockname()[1]) as sock:
                    for _ in range(20):
                        sock.sendto(channel.to_bytes(2, "big") + b"\x00\x05spoof", (SERVER[4], PORT))
                time.sleep(QUIET)
                assert drain(peer) == []
                peer.settimeout(PATIENCE)
                server.process.wait_until(lambda: RXVLAN_OFF in server.process.output(), 30)
                assert '"mode": "tcx"' in server.process.output()
                for number in range(100):
                    turn.send(channel, b"%d" % number)
                    assert peer.recv(100) == b"%d" % number
