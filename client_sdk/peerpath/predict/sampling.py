"""Sampler: has several servers say how they see one socket after the other. Sans-IO.

Mappings get their ports in the order of the packets that make them, so those leave one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stunwire import TransportAddress

from peerpath.nat.behaviour import Dependence
from peerpath.stun.binding import BindingAnswer, BindingOptions, BindingRequests, Send, Settled

WANTED = 6
"""Samples of a NAT whose mappings depend on the destination."""
_APART = 0.01
_OPTIONS = BindingOptions(rto=0.25, rc=3, rm=3)
"""1.5 s for the slowest: a sample that comes later is of no use any more."""


@dataclass(frozen=True, slots=True)
class SendSample:
    """One datagram from the socket of this number; sockets are opened when they are first named."""

    socket: int
    data: bytes
    to: TransportAddress


@dataclass(frozen=True, slots=True)
class Sample:
    socket: int
    server: TransportAddress
    mapped: TransportAddress


@dataclass(frozen=True, slots=True)
class Sampled:
    """The end. `samples` in the order in which their mappings were made; none where no server answered."""

    samples: tuple[Sample, ...]
    mapping: Dependence
    round_trip: float | None
    """Seconds to the nearest server; None without an answer to a first transmission."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Of the mappings in the order in which they were made, each once."""
        return tuple(mapped.port for mapped in dict.fromkeys(sample.mapped for sample in self.samples))


Output = SendSample | Sampled


class Sampler:
    """One sampling of `servers`, addresses of one family. The first server's second address and port are used
    too where it has them (RFC 5780), and more sockets where one does not make enough mappings.
    """

    def __init__(self, servers: Sequence[TransportAddress]) -> None:
        if not servers:
            raise ValueError("name at least one server")
        self._servers = list(dict.fromkeys(servers))
        self._requests: dict[int, BindingRequests] = {}
        self._asked: list[tuple[int, TransportAddress, bytes]] = []
        self._answers: dict[bytes, BindingAnswer] = {}
        self._pending: set[bytes] = set()
        self._queue: list[tuple[int, TransportAddress]] = []
        self._next_at: float | None = None
        self._sockets = 0
        self._over = False

    def start(self, now: float) -> list[Output]:
        self._add_sockets(1)
        return self._work(now)

    def receive(self, socket: int, data: bytes, source: TransportAddress, now: float) -> list[Output]:
        """A datagram at the socket of this number."""
        requests = self._requests.get(socket)
        if requests is None or self._over:
            return []
        return self._settle(socket, requests.receive(data, source, now), now)

    def next_deadline(self) -> float | None:
        if self._over:
            return None
        moments = [requests.next_deadline() for requests in self._requests.values()]
        moments.append(self._next_at)
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for socket, requests in list(self._requests.items()):
            outputs += self._settle(socket, requests.handle_timeout(now), now)
        if not self._over and self._next_at is not None and now >= self._next_at:
            outputs += self._work(now)
        return outputs

    # -- steps ------------------------------------------------------------------------------------------

    def _add_sockets(self, count: int) -> None:
        for _ in range(count):
            self._queue += [(self._sockets, server) for server in self._servers[:WANTED]]
            self._sockets += 1

    def _work(self, now: float) -> list[Output]:
        """The next question, one at a time."""
        self._next_at = None
        if not self._queue:
            return []
        socket, server = self._queue.pop(0)
        requests = self._requests.setdefault(socket, BindingRequests())
        ticket, results = requests.ask(server, now, _OPTIONS)
        self._asked.append((socket, server, ticket))
        self._pending.add(ticket)
        if self._queue:
            self._next_at = now + _APART
        return [SendSample(socket, send.data, send.to) for send in results if isinstance(send, Send)]

    def _settle(self, socket: int, results: Sequence[Send | Settled], now: float) -> list[Output]:
        outputs: list[Output] = []
        for result in results:
            if isinstance(result, Send):
                outputs.append(SendSample(socket, result.data, result.to))
                continue
            self._pending.discard(result.ticket)
            if isinstance(result.result, BindingAnswer):
                self._answers[result.ticket] = result.result
        return outputs + self._advance(now)

    def _advance(self, now: float) -> list[Output]:
        """When all that was asked is settled: more questions, or the end."""
        if self._over or self._pending or self._queue:
            return []
        known = len(self._servers)
        self._add_other_addresses()
        if len(self._servers) > known:
            self._queue += [(0, server) for server in self._servers[known:][:WANTED]]
            return self._work(now)
        samples = self._samples()
        mapping = self._mapping(samples)
        times = [answer.round_trip for answer in self._answers.values() if answer.round_trip is not None]
        sampled = Sampled(tuple(samples), mapping, min(times, default=None))
        made = len(sampled.ports)
        if mapping is Dependence.ENDPOINT_INDEPENDENT or not made or made >= WANTED or self._sockets > 1:
            self._over = True
            return [sampled]
        self._add_sockets(-(-(WANTED - made) // made))
        return self._work(now)

    def _add_other_addresses(self) -> None:
        for answer in list(self._answers.values()):
            other, server = answer.other, answer.server
            if other is None or len(self._servers) >= WANTED:
                continue
            beside = TransportAddress(server.host, other.port), TransportAddress(other.host, server.port)
            for address in (*beside, other):
                if address not in self._servers:
                    self._servers.append(address)

    def _samples(self) -> list[Sample]:
        """In the order of asking."""
        samples: list[Sample] = []
        for socket, server, ticket in self._asked:
            answer = self._answers.get(ticket)
            if answer is not None:
                samples.append(Sample(socket, server, answer.mapped))
        return samples

    def _mapping(self, samples: list[Sample]) -> Dependence:
        """RFC 4787 section 4.1, as far as the first socket shows it."""
        seen = {sample.server: sample.mapped for sample in samples if sample.socket == 0}
        if len(seen) < 2:
            return Dependence.UNKNOWN
        if len(set(seen.values())) == 1:
            # Two ports of one address leave open whether another address would make a difference.
            hosts = {server.host for server in seen}
            return Dependence.ENDPOINT_INDEPENDENT if len(hosts) > 1 else Dependence.UNKNOWN
        by_host: dict[str, set[TransportAddress]] = {}
        for server, mapped in seen.items():
            by_host.setdefault(server.host, set()).add(mapped)
        depends_on_port = any(len(mapped) > 1 for mapped in by_host.values())
        twice_asked = len(seen) > len(by_host)
        if twice_asked and not depends_on_port:
            return Dependence.ADDRESS_DEPENDENT
        return Dependence.ADDRESS_AND_PORT_DEPENDENT
