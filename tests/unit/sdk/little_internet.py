"""An internet of a few hosts on a virtual clock: RFC 4787 NATs, an RFC 5780 server, delay and loss."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from peerpath.nat.behaviour import Dependence
from stunwire import (
    CHANGE_REQUEST,
    OTHER_ADDRESS,
    RESPONSE_ORIGIN,
    XOR_MAPPED_ADDRESS,
    ErrorCode,
    Message,
    TransportAddress,
)

EI = Dependence.ENDPOINT_INDEPENDENT
AD = Dependence.ADDRESS_DEPENDENT
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT

DELAY = 0.02


def scope(remote: TransportAddress, dependence: Dependence) -> tuple[object, ...]:
    return {EI: (), AD: (remote.host,), APD: tuple(remote)}[dependence]


@dataclass
class Nat:
    """`mapping` None: a firewall or nothing at all, addresses stay as they are."""

    mapping: Dependence | None
    filtering: Dependence = EI
    ports: str = "preserved"
    hairpin: bool = False
    blocks_udp: bool = False
    _external: dict[tuple[object, ...], int] = field(default_factory=dict)
    _internal: dict[int, TransportAddress] = field(default_factory=dict)
    _allowed: dict[TransportAddress, set[tuple[object, ...]]] = field(default_factory=dict)
    _next_port: int = 20000
    _random: random.Random = field(default_factory=lambda: random.Random(5780))

    def outward(self, source: TransportAddress, to: TransportAddress, public_host: str) -> TransportAddress:
        if self.mapping is None:
            external = source
        else:
            key = (source, *scope(to, self.mapping))
            if key not in self._external:
                self._external[key] = self._choose(source.port)
                self._internal[self._external[key]] = source
            external = TransportAddress(public_host, self._external[key])
        self._allowed.setdefault(external, set()).add(scope(to, self.filtering))
        return external

    def inward(self, source: TransportAddress, to: TransportAddress) -> TransportAddress | None:
        if self.filtering is not EI and scope(source, self.filtering) not in self._allowed.get(to, set()):
            return None
        return to if self.mapping is None else self._internal.get(to.port)

    def _choose(self, port: int) -> int:
        if self.ports == "preserved" and port not in self._internal:
            return port
        if self.ports == "sequential":
            self._next_port += 1
            return self._next_port
        while True:
            chosen = self._random.randrange(1024, 65536)
            if chosen not in self._internal:
                return chosen


OPEN = Nat(None)


class Internet:
    """Delivers datagrams between hosts; each host has one NAT in front of it, with a public address."""

    def __init__(self, loss: float = 0.0, seed: int = 1) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._hosts: dict[str, Nat] = {}
        self._public: dict[str, str] = {}
        self._behind: dict[str, str] = {}
        self._sockets: dict[TransportAddress, Callable[[bytes, TransportAddress], None]] = {}
        self._loss = loss
        self._random = random.Random(seed)

    def host(self, address: str, nat: Nat = OPEN, public: str | None = None) -> None:
        self._hosts[address] = nat
        self._public[address] = public or address
        self._behind[public or address] = address

    def socket(self, address: TransportAddress, receive: Callable[[bytes, TransportAddress], None]) -> None:
        self._sockets[address] = receive

    def send(self, source: TransportAddress, to: TransportAddress, data: bytes) -> None:
        nat = self._hosts[source.host]
        if nat.blocks_udp:
            return
        external = nat.outward(source, to, self._public[source.host])
        if self._random.random() < self._loss:
            return
        if external.host == to.host and nat.mapping is not None and not nat.hairpin:
            return
        self.at(self.now + DELAY, lambda: self._arrive(external, to, data))

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (moment, next(self._order), action))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        while self._queue and not done():
            moment, _, action = self._queue[0]
            if moment > until:
                break
            heapq.heappop(self._queue)
            self.now = max(self.now, moment)
            action()

    def _arrive(self, source: TransportAddress, to: TransportAddress, data: bytes) -> None:
        host = self._behind.get(to.host)
        if host is None:
            return
        internal = self._hosts[host].inward(source, to)
        receive = self._sockets.get(internal) if internal is not None else None
        if receive is not None:
            receive(data, source)


class StunServer:
    """Answers Binding requests at one address, or at two addresses with two ports each."""

    def __init__(
        self,
        internet: Internet,
        host: str,
        other_host: str | None = None,
        *,
        port: int = 3478,
        honours_change: bool = True,
    ) -> None:
        self._internet = internet
        self._hosts = [host] if other_host is None else [host, other_host]
        self._ports = [port] if other_host is None else [port, port + 1]
        self._honours_change = honours_change
        self.address = TransportAddress(host, port)
        for each in self._hosts:
            if each not in internet._hosts:
                internet.host(each)
            for listening in self._ports:
                address = TransportAddress(each, listening)
                internet.socket(address, lambda data, source, at=address: self._answer(at, data, source))

    def _answer(self, at: TransportAddress, data: bytes, source: TransportAddress) -> None:
        request = Message.decode(data)
        change = request.get(CHANGE_REQUEST)
        if change is not None and len(self._hosts) == 1:
            self._internet.send(at, source, Message.error_to(request, ErrorCode.UNKNOWN_ATTRIBUTE).encode())
            return
        answer_from = at
        if change is not None and self._honours_change:
            answer_from = TransportAddress(
                self._other(self._hosts, at.host) if change.change_ip else at.host,
                self._other(self._ports, at.port) if change.change_port else at.port,
            )
        response = Message.success_to(request).add(XOR_MAPPED_ADDRESS, source)
        if len(self._hosts) == 2:
            response.add(RESPONSE_ORIGIN, answer_from)
            other = TransportAddress(self._other(self._hosts, at.host), self._other(self._ports, at.port))
            response.add(OTHER_ADDRESS, other)
        self._internet.send(answer_from, source, response.encode())

    @staticmethod
    def _other(pair, one):
        return pair[1] if one == pair[0] else pair[0]
