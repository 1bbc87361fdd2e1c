"""PortMap: which process of the relay holds which relay port, in memory that all of them see."""

import os
from collections.abc import Iterator, Sequence

from turnrelay.core.addresses import RelayedAddress
from turnrelay.relay.plane import RelayHost
from turnrelay.relay.ports import PortPool
from turnrelay.workers.memory import SharedLock, SharedMemory

_PORTS = 65536
_TCP = 0x80
"""Marks a port that relays TCP."""
NOBODY = -1
"""In the place of a member's number, for a process that has no ports in the map."""


class PortMap:
    """One byte for each port of each relay address: 0, or the number of the process that holds it and one,
    with a mark where it relays TCP.

    The system decides who gets a port, by bind; the map tells where it is no use to ask, and which relayed
    addresses live in other processes (`relay.plane.Neighbours`). Between ports of UDP and of TCP the system
    does not decide, so a port is taken with the lock held. Whoever holds a port takes it out of the
    map before the socket is closed, so nobody writes over what the next owner wrote.
    """

    def __init__(self, hosts: Sequence[RelayHost], member: int = 0, descriptor: int | None = None) -> None:
        """`descriptor` is that of another relay's map, to look into; it stays the caller's."""
        size = _PORTS * len(hosts)
        self.hosts = list(hosts)
        self.descriptor: int | None = None
        """Of this relay's map, for another relay to look into."""
        if descriptor is None:
            self.descriptor = descriptor = os.memfd_create("turnrelay-ports", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, size)
        self._map = SharedMemory(size, descriptor).map
        self._by_local = {host.local: (number * _PORTS, host) for number, host in enumerate(hosts)}
        self._by_advertised = {host.advertised: (number * _PORTS, host) for number, host in enumerate(hosts)}
        self.member = member
        self.lock = SharedLock()

    def holder(self, host: RelayHost, port: int) -> int:
        """The process that holds a port and one; 0 for nobody."""
        return self._map[self._by_local[host.local][0] + port] & ~_TCP

    def take(self, host: RelayHost, port: int, *, tcp: bool = False) -> None:
        self._map[self._by_local[host.local][0] + port] = self.member + 1 | (_TCP if tcp else 0)

    def give_back(self, host: RelayHost, port: int) -> None:
        """Nothing for a port that another process took over meanwhile."""
        if self.holder(host, port) == self.member + 1:
            self._map[self._by_local[host.local][0] + port] = 0

    def forget(self, member: int) -> None:
        """The process is gone, and its sockets with it. Nobody else writes where its number stands."""
        for mark in (bytes([member + 1]), bytes([member + 1 | _TCP])):
            at = -1
            while (at := self._map.find(mark, at + 1)) >= 0:
                self._map[at] = 0

    def clear(self) -> None:
        """All processes that wrote here are gone."""
        self._map[:] = bytes(len(self._map))

    # -- Neighbours -------------------------------------------------------------------------------------

    def reach(self, relay: RelayedAddress, *, tcp: bool = False) -> tuple[str, int] | None:
        """Where on this machine another process has this relayed address; None if none has."""
        known = self._by_advertised.get(relay.host)
        if known is None or not self._is_others(known[0] + relay.port, tcp):
            return None
        return known[1].local, relay.port

    def seen_from(self, host: str, port: int, *, tcp: bool = False) -> str | None:
        """The advertised host of the relayed address of another process that is there, None for others."""
        known = self._by_local.get(host)
        if known is None or not self._is_others(known[0] + port, tcp):
            return None
        return known[1].advertised

    def _is_others(self, at: int, tcp: bool) -> bool:
        mark = self._map[at]
        return mark & ~_TCP not in (0, self.member + 1) and bool(mark & _TCP) is tcp


def ports_of_others(hosts: Sequence[RelayHost], descriptor: int) -> PortMap:
    """The map of a relay that this process is not of. OSError or ValueError where it is none."""
    return PortMap(hosts, NOBODY, descriptor)


class Neighbourhood:
    """The processes of this relay, and those of relays that it goes on for or that go on for it
    (`relay.plane.Neighbours`)."""

    def __init__(self, own: PortMap) -> None:
        self.maps = [own]

    def reach(self, relay: RelayedAddress, *, tcp: bool = False) -> tuple[str, int] | None:
        for ports in self.maps:
            found = ports.reach(relay, tcp=tcp)
            if found is not None:
                return found
        return None

    def seen_from(self, host: str, port: int, *, tcp: bool = False) -> str | None:
        for ports in self.maps:
            found = ports.seen_from(host, port, tcp=tcp)
            if found is not None:
                return found
        return None


class SharedPortPool(PortPool):
    """The relay ports of one address where other processes open ports on it, too.

    A process takes ports of its own share first: so a port still rests for as long as possible, and two
    processes hardly ever try the same one. When its share is used up, it takes others' free ports.
    """

    def __init__(self, ports: PortMap, host: RelayHost, first: int, last: int, members: int) -> None:
        super().__init__(first, last)
        self._ports = ports
        self._host = host
        self._members = members
        self.alone = ports.lock

    def candidates(self, even: bool, with_next: bool) -> Iterator[int]:
        others = []
        for port in super().candidates(even, with_next):
            if not self.is_free(port) or (with_next and not self.is_free(port + 1)):
                continue
            if self._is_ours(port):
                yield port
            else:
                others.append(port)
        yield from others

    def is_free(self, port: int) -> bool:
        return super().is_free(port) and not self._ports.holder(self._host, port)

    def take(self, port: int, *, tcp: bool = False) -> None:
        super().take(port, tcp=tcp)
        self._ports.take(self._host, port, tcp=tcp)

    def adopt(self, port: int) -> None:
        super().adopt(port)
        self._ports.take(self._host, port)  # also outside of the range: others may be its peers

    def give_back(self, port: int) -> None:
        self._ports.give_back(self._host, port)
        super().give_back(port)

    def _is_ours(self, port: int) -> bool:
        """Pairs of an even port and the next one are in one share, for EVEN-PORT."""
        return port // 2 % self._members == self._ports.member
