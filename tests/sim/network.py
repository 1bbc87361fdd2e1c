"""Realms and what connects them: packets are routed to a node of the realm, or out through its gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stunwire import TransportAddress

from sim.world import World


class Packet(NamedTuple):
    source: TransportAddress
    destination: TransportAddress
    data: bytes


class Gateway(Protocol):
    """What stands between a realm and the one outside of it."""

    def outbound(self, packet: Packet) -> None: ...


Receiver = Callable[[Packet], None]


@dataclass(frozen=True)
class Impairments:
    """What one crossing of a realm does to a packet. Delays in seconds, the others are probabilities."""

    delay: float = 0.0005
    jitter: float = 0.0
    """Added to the delay at random, up to this: packets overtake each other."""
    loss: float = 0.0
    duplication: float = 0.0


class Realm:
    """One address space. Addresses that are not of the realm go to its gateway; without one they are lost."""

    def __init__(self, world: World, impairments: Impairments = Impairments()) -> None:
        self.world = world
        self.impairments = impairments
        self.gateway: Gateway | None = None
        self.crossings = 0
        self._nodes: dict[str, Receiver] = {}

    def attach(self, host: str, receiver: Receiver) -> None:
        assert host not in self._nodes, f"{host} is taken"
        self._nodes[host] = receiver

    def detach(self, host: str) -> None:
        """The cable is pulled."""
        self._nodes.pop(host, None)

    def send(self, packet: Packet) -> None:
        world, impairments = self.world, self.impairments
        self.crossings += 1
        if impairments.loss and world.random.random() < impairments.loss:
            return
        copies = 2 if impairments.duplication and world.random.random() < impairments.duplication else 1
        for _ in range(copies):
            delay = impairments.delay
            if impairments.jitter:
                delay += world.random.uniform(0, impairments.jitter)
            world.after(delay, lambda: self._arrive(packet))

    def _arrive(self, packet: Packet) -> None:
        receiver = self._nodes.get(packet.destination.host)
        if receiver is not None:
            receiver(packet)
        elif self.gateway is not None:
            self.gateway.outbound(packet)
