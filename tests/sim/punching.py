"""Two hosts that sample their NATs and punch, each packet a word: does a guess reach an open socket?"""

from __future__ import annotations

from peerpath.predict.sampling import Sampled, Sampler, SendSample
from peerpath.punch.campaign import Campaign, Probe
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.punch.tactics import NoTactic, Part, choose_tactic
from peerpath.stun.binding import mapped_address
from stunwire import XOR_MAPPED_ADDRESS, Message, TransportAddress

from sim.access import Addresses, build_access
from sim.nat import NatKind
from sim.network import Impairments, Packet, Realm
from sim.world import Alarm, World

SERVERS = (TransportAddress("203.0.113.1", 3478), TransportAddress("203.0.113.2", 3478))
_FIRST_PORT = 10_000


class StunHost:
    """Answers every Binding request with where it came from."""

    def __init__(self, realm: Realm, address: TransportAddress) -> None:
        self._realm = realm
        realm.attach(address.host, self._receive)

    def _receive(self, packet: Packet) -> None:
        if not packet.data:
            return  # a neighbour's, who wants no answer
        answer = Message.success_to(Message.decode(packet.data)).add(XOR_MAPPED_ADDRESS, packet.source)
        assert mapped_address(answer) is not None
        self._realm.send(Packet(packet.destination, packet.source, answer.encode()))


class PunchHost:
    """The sans-IO parts of one side. Sockets are ports."""

    def __init__(self, realm: Realm, host: str, limits: PunchLimits) -> None:
        self.plan: PunchPlan | None = None
        self.sent = 0
        self.reached = False
        """A packet of the peer's punching has come in."""
        self._world = realm.world
        self._realm = realm
        self._host = host
        self._limits = limits
        self._core: Sampler | Campaign | None = None
        self._alarm = Alarm(self._world, self._on_timer)
        realm.attach(host, self._receive)

    def sample(self) -> None:
        sampler = self._core = Sampler(SERVERS)
        self._do(sampler.start(self._world.now))

    def punch(self, theirs: PunchPlan) -> NoTactic | Part:
        assert self.plan is not None
        tactic = choose_tactic(self.plan, theirs)
        if isinstance(tactic, NoTactic):
            return tactic
        campaign = self._core = Campaign(tactic, self._limits, self._world.random)
        self._do(campaign.start(self._world.now))
        return tactic.part

    def _do(self, outputs: list[object]) -> None:
        for output in outputs:
            if isinstance(output, Sampled):
                self.plan = PunchPlan.made_of(output, None, self._limits)
            elif isinstance(output, SendSample):
                self._send(output.socket, output.to, output.data)
            elif isinstance(output, Probe):
                self.sent += 1
                self._send(output.socket, output.to, b"probe")
        self._alarm.set(None if self._core is None else self._core.next_deadline())

    def _send(self, socket: int, to: TransportAddress, data: bytes) -> None:
        self._realm.send(Packet(TransportAddress(self._host, _FIRST_PORT + socket), to, data))

    def _receive(self, packet: Packet) -> None:
        if packet.data == b"probe":
            self.reached = True
        elif isinstance(self._core, Sampler):
            socket = packet.destination.port - _FIRST_PORT
            self._do(self._core.receive(socket, packet.data, packet.source, self._world.now))

    def _on_timer(self) -> None:
        assert self._core is not None
        self._do(self._core.handle_timeout(self._world.now))


def punched(
    ours: list[NatKind],
    theirs: list[NatKind],
    *,
    seed: int,
    impairments: Impairments | None = None,
    limits: PunchLimits | None = None,
    neighbours: int = 0,
) -> NoTactic | bool:
    """Whether a packet gets through within 20 s. `neighbours` mappings are made between plan and punching."""
    world = World(seed)
    internet, addresses = Realm(world, impairments or Impairments(0.02)), Addresses()
    for server in SERVERS:
        StunHost(internet, server)
    realms = [build_access(kinds, internet, addresses) for kinds in (ours, theirs)]
    a, b = (PunchHost(realm, host, limits or PunchLimits()) for realm, host in realms)
    a.sample()
    b.sample()
    world.run(5.0, lambda: a.plan is not None and b.plan is not None)
    assert a.plan is not None
    assert b.plan is not None
    for number in range(neighbours):
        realms[0][0].send(Packet(TransportAddress("192.168.1.99", 2000 + number), SERVERS[0], b""))
    results = [a.punch(b.plan), b.punch(a.plan)]
    refused = [result for result in results if isinstance(result, NoTactic)]
    if refused:
        return refused[0]
    world.run(world.now + 20.0, lambda: a.reached or b.reached)
    return a.reached or b.reached
