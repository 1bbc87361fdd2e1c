"""Nat: RFC 4787, exactly: mapping, filtering, port assignment, timeouts, hairpinning."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from stunwire import TransportAddress

from sim.network import Packet, Realm


class Dependence(IntEnum):
    """What a mapping (section 4.1) or a filter (section 5) depends on."""

    ENDPOINT_INDEPENDENT = 0
    ADDRESS_DEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2

    def scope(self, remote: TransportAddress) -> tuple[object, ...]:
        """The part of a remote address that it looks at."""
        return ((), (remote.host,), (remote.host, remote.port))[self]


class Ports(Enum):
    """How a new mapping gets its port (section 4.2)."""

    PRESERVATION = "preservation"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    BLOCK = "block"
    """Climbs by 1 to 4 through a block of 512 ports, over and over, as carriers hand them out."""


_BLOCK_SIZE = 512


@dataclass(frozen=True)
class NatKind:
    """One NAT, or a firewall where `translates` is False. The timeout is in seconds (section 4.3)."""

    mapping: Dependence
    filtering: Dependence
    ports: Ports = Ports.PRESERVATION
    hairpin: bool = False
    timeout: float = 120.0
    translates: bool = True
    passes_udp: bool = True


@dataclass
class _Mapping:
    internal: TransportAddress
    external: TransportAddress
    expires_at: float
    permitted: dict[tuple[object, ...], float] = field(default_factory=dict)


class Nat:
    """Stands between `inside` and `outside`, where it owns the address `external`."""

    def __init__(self, kind: NatKind, inside: Realm, outside: Realm, external: str) -> None:
        self.kind = kind
        self.external = external
        self._inside = inside
        self._outside = outside
        self._world = outside.world
        self._mappings: dict[tuple[TransportAddress, tuple[object, ...]], _Mapping] = {}
        self._by_port: dict[int, _Mapping] = {}
        self._next_port = self._first_port = self._world.random.randrange(20_000, 40_000)
        self._offset = self._world.random.randrange(_BLOCK_SIZE)
        inside.gateway = self
        outside.attach(external, self.inbound)

    def outbound(self, packet: Packet) -> None:
        """From inside to somewhere else."""
        if not self.kind.passes_udp:
            return
        if packet.destination.host == self.external:
            self._turn_round(packet)
            return
        mapping = self._map(packet.source, packet.destination)
        self._outside.send(packet._replace(source=mapping.external))

    def inbound(self, packet: Packet) -> None:
        """From outside, to the external address."""
        mapping = self._by_port.get(packet.destination.port)
        if mapping is None or mapping.expires_at <= self._world.now:
            return
        permitted_until = mapping.permitted.get(self.kind.filtering.scope(packet.source), 0.0)
        if permitted_until > self._world.now:
            self._inside.send(packet._replace(destination=mapping.internal))

    def forget(self) -> None:
        """The box restarts: all mappings are gone."""
        self._mappings.clear()
        self._by_port.clear()

    def _turn_round(self, packet: Packet) -> None:
        """Section 6: the packet goes back in, from the external address of its sender."""
        if self.kind.hairpin:
            mapping = self._map(packet.source, packet.destination)
            self.inbound(packet._replace(source=mapping.external))

    def _map(self, internal: TransportAddress, remote: TransportAddress) -> _Mapping:
        now, kind = self._world.now, self.kind
        key = (internal, kind.mapping.scope(remote))
        mapping = self._mappings.get(key)
        if mapping is None or mapping.expires_at <= now:
            external = TransportAddress(self.external, self._assign_port(internal.port))
            mapping = self._mappings[key] = self._by_port[external.port] = _Mapping(internal, external, 0.0)
        # Section 4.3 REQ-6: outbound packets refresh; inbound ones need not, and here do not.
        mapping.expires_at = mapping.permitted[kind.filtering.scope(remote)] = now + kind.timeout
        return mapping

    def _assign_port(self, internal_port: int) -> int:
        if self.kind.ports is Ports.PRESERVATION and self._is_free(internal_port):
            return internal_port
        if self.kind.ports is Ports.SEQUENTIAL:
            while not self._is_free(self._next_port):
                self._next_port += 1
            self._next_port += 1
            return self._next_port - 1
        while True:
            if self.kind.ports is Ports.BLOCK:
                self._offset = (self._offset + self._world.random.randint(1, 4)) % _BLOCK_SIZE
                port = self._first_port + self._offset
            else:
                port = self._world.random.randrange(1024, 65536)
            if self._is_free(port):
                return port

    def _is_free(self, port: int) -> bool:
        mapping = self._by_port.get(port)
        return mapping is None or mapping.expires_at <= self._world.now


class Firewall:
    """Filters and does not translate: the host behind it has a public address."""

    def __init__(self, kind: NatKind, inside: Realm, outside: Realm, protected: str) -> None:
        self.kind = kind
        self._inside = inside
        self._outside = outside
        self._permitted: dict[tuple[object, ...], float] = {}
        inside.gateway = self
        outside.attach(protected, self._inbound)

    def outbound(self, packet: Packet) -> None:
        if not self.kind.passes_udp:
            return
        key = (packet.source, self.kind.filtering.scope(packet.destination))
        self._permitted[key] = self._outside.world.now + self.kind.timeout
        self._outside.send(packet)

    def _inbound(self, packet: Packet) -> None:
        key = (packet.destination, self.kind.filtering.scope(packet.source))
        if self._permitted.get(key, 0.0) > self._outside.world.now:
            self._inside.send(packet)
