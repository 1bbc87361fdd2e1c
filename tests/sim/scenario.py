"""Scenario: two hosts, what lies between them, and a relay; run until they have what they can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from peerpath.ice import AgentOptions, Role

from sim.access import Addresses, Subscribers, build_access
from sim.host import SimHost
from sim.kinds import KINDS
from sim.nat import NatKind
from sim.network import Impairments, Realm
from sim.relay import SimRelay
from sim.world import World

# 40 ms to the server and back, of which the local network takes 1.
INTERNET_DELAY = 0.0195
SIGNALING_DELAY = 0.04


@dataclass
class Scenario:
    """The initiator starts at 0; the responder when it hears of it, one signaling delay later."""

    a: str | Sequence[NatKind] = "open"
    b: str | Sequence[NatKind] = "open"
    seed: int = 1
    internet: Impairments = field(default_factory=lambda: Impairments(delay=INTERNET_DELAY))
    signaling_delay: float = SIGNALING_DELAY
    relays: int = 1
    dead_servers: int = 0
    stun_only: bool = False
    options: AgentOptions | tuple[AgentOptions, AgentOptions] | None = None
    roles: tuple[Role, Role] = (Role.CONTROLLING, Role.CONTROLLED)
    together: str = ""
    """"home": both behind all boxes of `a`; "carrier": behind the outermost one of `a`."""

    def build(self) -> Stage:
        world = World(self.seed)
        internet = Realm(world, self.internet)
        addresses = Addresses()
        servers = [
            SimRelay(internet, f"203.0.113.{number + 1}") for number in range(self.dead_servers + self.relays)
        ]
        for server in servers[: self.dead_servers]:
            server.is_down = True
        options = self.options if isinstance(self.options, tuple) else (self.options, self.options)
        places = self._places(internet, addresses)
        hosts = [
            SimHost(world, realm, address, role, options=chosen)
            for (realm, address), role, chosen in zip(places, self.roles, options, strict=True)
        ]
        return Stage(self, world, internet, addresses, servers, *hosts)

    def _places(self, internet: Realm, addresses: Addresses) -> list[tuple[Realm, str]]:
        """The realm and address of each host."""
        a, b = (KINDS[kind] if isinstance(kind, str) else tuple(kind) for kind in (self.a, self.b))
        if self.together == "home":
            realm, address = build_access(a, internet, addresses)
            return [(realm, address), (realm, "192.168.1.11" if a else addresses.public())]
        if self.together == "carrier":
            carrier, _ = build_access(a[-1:], internet, addresses, "100.64.0.1")
            return [
                build_access(a[:-1], carrier, Subscribers("100.64.1."), "192.168.1.10"),
                build_access(b[:-1], carrier, Subscribers("100.64.2."), "192.168.1.10"),
            ]
        return [build_access(kinds, internet, addresses) for kinds in (a, b)]


@dataclass
class Stage:
    """A scenario that was built, ready to run."""

    scenario: Scenario
    world: World
    internet: Realm
    addresses: Addresses
    servers: list[SimRelay]
    a: SimHost
    b: SimHost

    def __post_init__(self) -> None:
        delay = self.scenario.signaling_delay
        for host, peer in ((self.a, self.b), (self.b, self.a)):
            # Signaling loses nothing and keeps the order, as a TCP connection through a server does.
            host.signal = lambda message, peer=peer: self.world.after(delay, lambda: message(peer))

    def start(self) -> None:
        self.world.after(self.scenario.signaling_delay, lambda: self._gather(self.b))
        self._gather(self.a)
        self.a.tell_description()
        self.world.after(self.scenario.signaling_delay, self.b.tell_description)

    def _gather(self, host: SimHost) -> None:
        kind = self.scenario.a if host is self.a else self.scenario.b
        blocked = kind == "udp-blocked"
        host.gather(self.servers, stun_only=self.scenario.stun_only, over_tcp=blocked)

    def run(self, until: float, *, direct: bool = False) -> Stage:
        """Until both have a path (a direct one, where `direct`), or until the time is over."""
        self.world.run(until, lambda: self.is_connected(direct=direct))
        return self

    def is_connected(self, *, direct: bool = False) -> bool:
        paths = (self.a.path, self.b.path)
        return all(path is not None and not (direct and path.is_relayed) for path in paths)

    @property
    def connected_at(self) -> float:
        """When both had a first path, in seconds from the start of the initiator."""
        times = [host.first_path_at for host in (self.a, self.b)]
        return max(float("inf") if at is None else at for at in times)


def play(until: float = 45.0, *, direct: bool = False, **choices: object) -> Stage:
    """Builds, starts and runs a scenario."""
    stage = Scenario(**choices).build()
    stage.start()
    return stage.run(until, direct=direct)
