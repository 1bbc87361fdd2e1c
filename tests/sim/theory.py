"""Is there a direct path at all? Found out by punching without end on a network that loses nothing.

It uses the NATs of the simulation and nothing of ICE: each side knows the other's addresses, sends to all of
them, learns the sources of what arrives, and goes on until nothing new happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from stunwire import TransportAddress

from sim.access import Addresses, build_access
from sim.kinds import KINDS
from sim.nat import NatKind
from sim.network import Impairments, Packet, Realm
from sim.world import World

_SERVER = TransportAddress("203.0.113.1", 3478)
_MAX_ROUNDS = 8


class Puncher:
    """One socket that sends to whatever it knows of the other side."""

    def __init__(self, name: bytes, realm: Realm, host: str) -> None:
        self.name = name
        self.address = TransportAddress(host, 5000)
        self.remotes: set[TransportAddress] = {self.address}
        self.heard: set[tuple[TransportAddress, bytes]] = set()
        self._realm = realm
        realm.attach(host, self._receive)

    def _receive(self, packet: Packet) -> None:
        self.heard.add((packet.source, packet.data))
        self.remotes.add(packet.source)

    def send(self, remote: TransportAddress, data: bytes) -> None:
        self._realm.send(Packet(self.address, remote, data))


@cache
def can_punch(a: str, b: str) -> bool:
    """Whether two hosts, each behind its own boxes of this kind, can reach each other directly."""
    return direct_path_exists(KINDS[a], KINDS[b])


def direct_path_exists(a_kinds: Sequence[NatKind], b_kinds: Sequence[NatKind]) -> bool:
    world = World(seed=7)
    internet, addresses = Realm(world, Impairments()), Addresses()
    sides = [
        Puncher(name, *build_access(kinds, internet, addresses))
        for name, kinds in ((b"a", a_kinds), (b"b", b_kinds))
    ]
    return exchange(world, internet, *sides)


def exchange(world: World, internet: Realm, a: Puncher, b: Puncher) -> bool:
    """Punches until nothing new happens; True if one and the same path then works both ways."""
    mapped: dict[bytes, TransportAddress] = {}
    internet.attach(_SERVER.host, lambda packet: mapped.__setitem__(packet.data, packet.source))
    for side in (a, b):
        side.send(_SERVER, side.name)
    world.run(world.now + 1)
    for side, other in ((a, b), (b, a)):
        side.remotes = {other.address} | ({mapped[other.name]} if other.name in mapped else set())
    for _ in range(_MAX_ROUNDS):
        for side in (a, b):
            for remote in sorted(side.remotes):
                side.send(remote, b"")
        world.run(world.now + 1)
    # A path is a request that arrives, and an answer to its source that comes back from where it was sent.
    for number, remote in enumerate(sorted(a.remotes)):
        question, answer = b"question %d" % number, b"answer %d" % number
        a.send(remote, question)
        world.run(world.now + 1)
        for source, data in list(b.heard):
            if data == question:
                b.send(source, answer)
                world.run(world.now + 1)
                if (remote, answer) in a.heard:
                    return True
    return False
