"""BehaviourDiscovery: the sans-IO core of NAT behaviour discovery (RFC 5780).

Three sockets take part, so that no test opens a filter that another one is about to test:

    MAPPING    asks (A1, P1), (A2, P1) and (A2, P2) what they see of it        section 4.3
    FILTERING  asks (A1, P1) alone, to answer from elsewhere                   section 4.4
    HAIRPIN    exchanges packets with MAPPING by their public addresses        section 4.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from stunwire import ChangeRequest, DecodeError, Message, MessageClass, Method, TransportAddress, is_stun

from peerpath.nat.behaviour import (
    Dependence,
    NatBehaviour,
    PortAssignment,
    filtering_of,
    mapping_from_plain_servers,
    mapping_of,
    port_assignment_of,
)
from peerpath.stun.binding import (
    BindingAnswer,
    BindingFailure,
    BindingOptions,
    BindingRequests,
    Send,
    Settled,
)


class Socket(Enum):
    """The sockets that the driver opens, all on the same local address."""

    MAPPING = "mapping"
    FILTERING = "filtering"
    HAIRPIN = "hairpin"


class Test(Enum):
    """What a request is for."""

    FIRST = "public address"
    MAPPING_OTHER_ADDRESS = "mapping, other address"
    MAPPING_OTHER_PORT = "mapping, other address and port"
    FILTERING_CONTROL = "filtering, control"
    FILTERING_OTHER_ADDRESS = "filtering, other address and port"
    FILTERING_OTHER_PORT = "filtering, other port"
    HAIRPIN_FIRST = "hairpinning, public address"


@dataclass(frozen=True, slots=True)
class SendFrom:
    """One datagram from one of the sockets."""

    socket: Socket
    data: bytes
    to: TransportAddress


@dataclass(frozen=True, slots=True)
class Progress:
    """For a person who waits: what is being done, and how much of it is done, 0 to 1."""

    text: str
    done: float


@dataclass(frozen=True, slots=True)
class Discovered:
    """The end. `failures` has the servers that did not help, with the reason."""

    behaviour: NatBehaviour
    failures: Mapping[TransportAddress, str]


Output = SendFrom | Progress | Discovered

_GRACE_SECONDS = 0.5
"""How long a server that knows RFC 5780 may take longer than the first that answered."""
_HAIRPIN_ROUNDS = 4
_HAIRPIN_SECONDS = 0.2

# Silence is an answer here, so it is waited for with several transmissions but not for 39.5 s: in all 13
# times the first interval, which follows the round trip to the server. A server that says nothing at all is
# given 4.5 s.
_RC, _RM, _FIRST_RM = 4, 6, 2
_SLOWEST, _FASTEST = 0.5, 0.1


class BehaviourDiscovery:
    """One discovery, from `start` to `Discovered`.

    `servers` are addresses of one family, each once. `locals` are the sockets' own addresses, with the host
    that packets to the servers leave from.
    """

    def __init__(
        self, servers: Sequence[TransportAddress], local_addresses: Mapping[Socket, TransportAddress]
    ) -> None:
        if not servers:
            raise ValueError("name at least one server")
        self._servers = list(dict.fromkeys(servers))
        self._locals = dict(local_addresses)
        self._requests = {socket: BindingRequests() for socket in Socket}
        self._tests: dict[bytes, tuple[Test, TransportAddress]] = {}
        self._first: dict[TransportAddress, BindingAnswer] = {}
        self._results: dict[Test, BindingAnswer | BindingFailure] = {}
        self._failures: dict[TransportAddress, str] = {}
        self._chosen: BindingAnswer | None = None
        self._chosen_at: float | None = None
        self._hairpin_ids: set[bytes] = set()
        self._hairpin_rounds = 0
        self._hairpin_at: float | None = None
        self._hairpinning: bool | None = None
        self._over = False

    def start(self, now: float) -> list[Output]:
        outputs: list[Output] = [Progress("Asking for the public address", 0.05)]
        options = BindingOptions(rto=_SLOWEST, rc=_RC, rm=_FIRST_RM)
        for server in self._servers:
            outputs += self._ask(Test.FIRST, Socket.MAPPING, server, now, options)
        return outputs

    def receive(self, socket: Socket, data: bytes, source: TransportAddress, now: float) -> list[Output]:
        """Whatever came in on `socket`."""
        if self._over:
            return []
        if self._hairpin_at is not None and self._is_hairpin(data):
            self._hairpinning, self._hairpin_at = True, None
            return self._advance(now)
        return self._settle(socket, self._requests[socket].receive(data, source, now), now)

    def next_deadline(self) -> float | None:
        if self._over:
            return None
        moments = [requests.next_deadline() for requests in self._requests.values()]
        if self._chosen is None:
            moments.append(self._chosen_at)
        moments.append(self._hairpin_at)
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        if self._over:
            return []
        outputs: list[Output] = []
        for socket, requests in self._requests.items():
            outputs += self._settle(socket, requests.handle_timeout(now), now)
            if self._over:
                return outputs
        if self._hairpin_at is not None and now >= self._hairpin_at:
            outputs += self._hairpin(now)
        return outputs + self._advance(now)

    def give_up(self, now: float) -> list[Output]:
        """The servers are known to live by other means: if UDP has been silent so far, it does not pass."""
        if self._over or self._first:
            return []
        self._failures |= {server: "no answer" for _, server in self._tests.values()}
        return self._conclude(self._silence())

    # -- from one stage to the next ---------------------------------------------------------------------

    def _settle(self, socket: Socket, results: Sequence[Send | Settled], now: float) -> list[Output]:
        outputs: list[Output] = []
        for result in results:
            if isinstance(result, Send):
                outputs.append(SendFrom(socket, result.data, result.to))
                continue
            test, server = self._tests.pop(result.ticket)
            if test is not Test.FIRST:
                self._results[test] = result.result
            elif isinstance(result.result, BindingAnswer):
                self._first[server] = result.result
            else:
                self._failures[server] = result.result.reason
        return outputs + (self._advance(now) if any(isinstance(each, Settled) for each in results) else [])

    def _advance(self, now: float) -> list[Output]:
        if self._over:
            return []
        if self._chosen is None:
            return self._choose(now)
        if self._hairpin_rounds == 0 and self._hairpin_is_ready():
            return self._hairpin(now)
        if self._tests or self._hairpin_at is not None:
            return []
        return self._conclude(self._tested())

    def _choose(self, now: float) -> list[Output]:
        """Takes the fastest server that can do more than answer; waits a little for one."""
        for answer in self._first.values():
            if _can_discover(answer):
                self._chosen = answer
                return self._begin_tests(answer, now)
        waiting = bool(self._tests)
        if not self._first:
            return [] if waiting else self._conclude(self._silence())
        if waiting and self._chosen_at is None and len({server.host for server in self._first}) > 1:
            # Two addresses are enough to compare; a single answer waits for a second one.
            self._chosen_at = now + _GRACE_SECONDS
        if waiting and (self._chosen_at is None or now < self._chosen_at):
            return []
        return self._conclude(self._compared())

    def _begin_tests(self, first: BindingAnswer, now: float) -> list[Output]:
        other, server = first.other, first.server
        assert other is not None
        round_trip = first.round_trip if first.round_trip is not None else _SLOWEST
        rto = min(max(2 * round_trip, _FASTEST), _SLOWEST)
        self._tests.clear()  # the other servers are not needed any more
        self._requests[Socket.MAPPING] = BindingRequests()
        outputs: list[Output] = [Progress("Testing how it maps and filters", 0.3)]
        questions = (
            (Test.MAPPING_OTHER_ADDRESS, Socket.MAPPING, TransportAddress(other.host, server.port), None),
            (Test.MAPPING_OTHER_PORT, Socket.MAPPING, other, None),
            (Test.FILTERING_CONTROL, Socket.FILTERING, server, None),
            (Test.FILTERING_OTHER_ADDRESS, Socket.FILTERING, server, ChangeRequest(True, True)),
            (Test.FILTERING_OTHER_PORT, Socket.FILTERING, server, ChangeRequest(False, True)),
            (Test.HAIRPIN_FIRST, Socket.HAIRPIN, server, None),
        )
        for test, socket, to, change in questions:
            if socket is Socket.HAIRPIN and not self._is_translated(first):
                continue
            # What should be answered is asked for once more than what may well stay silent.
            rc, rm = (_RC + 1, _FIRST_RM) if change is None else (_RC, _RM)
            outputs += self._ask(test, socket, to, now, BindingOptions(change, rto=rto, rc=rc, rm=rm))
        return outputs

    def _ask(
        self, test: Test, socket: Socket, to: TransportAddress, now: float, options: BindingOptions
    ) -> list[Output]:
        ticket, results = self._requests[socket].ask(to, now, options)
        self._tests[ticket] = (test, to)
        return [SendFrom(socket, result.data, result.to) for result in results if isinstance(result, Send)]

    # -- hairpinning ------------------------------------------------------------------------------------

    def _hairpin_is_ready(self) -> bool:
        """Once the mapping is known: packets to a new destination would blur what is seen of it."""
        needed = {Test.MAPPING_OTHER_ADDRESS, Test.MAPPING_OTHER_PORT, Test.HAIRPIN_FIRST}
        return needed <= self._results.keys() and isinstance(self._results[Test.HAIRPIN_FIRST], BindingAnswer)

    def _hairpin(self, now: float) -> list[Output]:
        """Both sockets send to each other's public address, so that neither filter is in the way."""
        if self._hairpin_rounds >= _HAIRPIN_ROUNDS:
            self._hairpinning, self._hairpin_at = False, None
            return []
        self._hairpin_rounds += 1
        self._hairpin_at = now + _HAIRPIN_SECONDS
        theirs = self._results[Test.HAIRPIN_FIRST]
        assert self._chosen is not None
        assert isinstance(theirs, BindingAnswer)
        outputs: list[Output] = []
        if self._hairpin_rounds == 1:
            outputs.append(Progress("Testing hairpinning", 0.7))
        ends = ((Socket.MAPPING, theirs.mapped), (Socket.HAIRPIN, self._chosen.mapped))
        for socket, to in ends:
            message = Message(MessageClass.REQUEST, Method.BINDING)
            self._hairpin_ids.add(message.transaction_id)
            outputs.append(SendFrom(socket, message.encode(fingerprint=True), to))
        return outputs

    def _is_hairpin(self, data: bytes) -> bool:
        if not is_stun(data):
            return False
        try:
            message = Message.decode(data)
        except DecodeError:
            return False
        return message.message_class is MessageClass.REQUEST and message.transaction_id in self._hairpin_ids

    # -- conclusions ------------------------------------------------------------------------------------

    def _conclude(self, behaviour: NatBehaviour) -> list[Output]:
        self._over = True
        return [Progress("Done", 1.0), Discovered(behaviour, dict(self._failures))]

    def _tested(self) -> NatBehaviour:
        """From the tests with a server of two addresses."""
        first = self._chosen
        assert first is not None
        assert first.other is not None
        notes = []
        second, third = self._mapped(Test.MAPPING_OTHER_ADDRESS), self._mapped(Test.MAPPING_OTHER_PORT)
        mapping = mapping_of(first.mapped, second, third)
        if mapping is Dependence.UNKNOWN:
            notes.append(f"The server names {first.other.host} as its other address, which does not answer.")
            mapping, note = mapping_from_plain_servers(self._seen())
            notes += [note] if note else []
        filtering = Dependence.UNKNOWN
        if isinstance(self._results.get(Test.FILTERING_CONTROL), BindingAnswer):
            filtering = filtering_of(
                other_address=self._came_from(Test.FILTERING_OTHER_ADDRESS, other_host=True),
                other_port=self._came_from(Test.FILTERING_OTHER_PORT, other_host=False),
            )
        if filtering is Dependence.UNKNOWN:
            notes.append(
                "Filtering could not be tested: the server did not answer from elsewhere when asked."
            )
        seen = [first.mapped, *(mapped for mapped in (second, third) if mapped is not None)]
        ports = list(dict.fromkeys(mapped.port for mapped in seen))
        return self._describe(first, mapping, filtering, ports, notes)

    def _compared(self) -> NatBehaviour:
        """From servers with one address each: they tell the mapping only."""
        first = next(iter(self._first.values()))
        mapping, note = mapping_from_plain_servers(self._seen())
        if not self._is_translated(first):
            mapping, note = Dependence.ENDPOINT_INDEPENDENT, None
        notes = [
            "Filtering is unknown: no server here has the second address that testing it takes (RFC 5780)."
        ]
        if note:
            notes.append(note)
        ports = list(dict.fromkeys(answer.mapped.port for answer in self._first.values()))
        return self._describe(first, mapping, Dependence.UNKNOWN, ports, notes)

    def _describe(
        self,
        first: BindingAnswer,
        mapping: Dependence,
        filtering: Dependence,
        ports: list[int],
        notes: list[str],
    ) -> NatBehaviour:
        local = self._locals[Socket.MAPPING]
        hairpin = self._results.get(Test.HAIRPIN_FIRST)
        mapped_ports, local_ports = list(ports), [local.port] * len(ports)
        if isinstance(hairpin, BindingAnswer):
            # Of another socket, and so a mapping more.
            mapped_ports.append(hairpin.mapped.port)
            local_ports.append(self._locals[Socket.HAIRPIN].port)
        # Requests that left together may have been mapped in another order than they were sent.
        assignment = port_assignment_of(local_ports, mapped_ports)
        if assignment is PortAssignment.RANDOM:
            assignment = port_assignment_of(local_ports, sorted(mapped_ports))
        return NatBehaviour(
            mapping=mapping,
            filtering=filtering,
            translated=self._is_translated(first),
            hairpinning=self._hairpinning,
            port_assignment=assignment,
            public_address=first.mapped,
            local_address=local,
            server=first.server,
            notes=tuple(notes),
        )

    def _silence(self) -> NatBehaviour:
        """No server answered by UDP. Whether UDP is at fault, only another transport can tell."""
        return NatBehaviour(
            udp_blocked=True,
            local_address=self._locals[Socket.MAPPING],
            notes=("No server answered by UDP.",),
        )

    def _mapped(self, test: Test) -> TransportAddress | None:
        result = self._results.get(test)
        return result.mapped if isinstance(result, BindingAnswer) else None

    def _seen(self) -> dict[TransportAddress, TransportAddress]:
        return {server: answer.mapped for server, answer in self._first.items()}

    def _came_from(self, test: Test, *, other_host: bool) -> bool | None:
        """None when the server would not, or took no notice and answered from its usual address."""
        result = self._results.get(test)
        if isinstance(result, BindingAnswer):
            source, server = result.source, result.server
            elsewhere = (source.host != server.host) == other_host and source.port != server.port
            return True if elsewhere else None
        return False if result is not None and result.silence else None

    def _is_translated(self, answer: BindingAnswer) -> bool:
        return answer.mapped != self._locals[Socket.MAPPING]


def _can_discover(answer: BindingAnswer) -> bool:
    other, server = answer.other, answer.server
    return (
        other is not None
        and other.host != server.host
        and other.port != server.port
        and (":" in other.host) == (":" in server.host)
    )
