"""Gatherer: where candidates come from (RFC 8445 section 5.1.1). Sans-IO, as the agent is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stunwire import DecodeError, Message, Method, TransportAddress, is_stun

from peerpath.ice.candidate_maker import CandidateMaker
from peerpath.ice.connectivity_check import form_keepalive
from peerpath.ice.foundation import Foundations
from peerpath.ice.inquiries import Inquiries, Task
from peerpath.ice.outputs import CandidateFound, CandidateMapped, GatheringComplete, Transmit
from peerpath.ice.pacer import Pacer, Turn, gathering_rto
from peerpath.ice.priority import MAX_LOCAL_PREFERENCE
from peerpath.ice.relays import (
    PeerRefused,
    RelayClosed,
    RelayData,
    RelayOpened,
    RelayOutput,
    RelayRedirected,
    Relays,
)
from peerpath.ice.servers import GatheringServer, Inquiry, ServerReport
from peerpath.stun.binding import BindingAnswer, BindingOptions, BindingRequests, Send, Settled

GathererOutput = (
    Transmit | CandidateFound | CandidateMapped | GatheringComplete | RelayData | PeerRefused | RelayClosed
)

_MAX_REDIRECTS = 3

MAPPING_PATIENCE = 1.0
"""Seconds after which gathering is complete without port mappings; they may still come."""


@dataclass(slots=True)
class _Base:
    """A socket of the agent."""

    address: TransportAddress
    local_preference: int
    bindings: BindingRequests = field(default_factory=BindingRequests)
    tickets: dict[bytes, tuple[GatheringServer, ServerReport]] = field(default_factory=dict)
    mapped_by: TransportAddress | None = None
    """The server that keeps the NAT binding of this base alive."""
    mapped: set[TransportAddress] = field(default_factory=set)
    """The server-reflexive addresses found so far."""
    keepalive_at: float = 0.0
    allocations: set[TransportAddress] = field(default_factory=set)
    """The servers that were asked for one."""


class Gatherer:
    """Asks every server from every base of its family; candidates come out as they are found.

    New transactions leave in the slots of `pacer` (section 14.2). Nothing waits for the slowest server:
    `patience` seconds after the beginning gathering is called complete without those that did not answer.
    With `relay_only` no server-reflexive address is asked for, nor does a relayed candidate name one.
    """

    def __init__(
        self,
        *,
        pacer: Pacer,
        foundations: Foundations,
        relay_only: bool = False,
        patience: float = 10.0,
        keepalive_interval: float = 15.0,
    ) -> None:
        self.reports: list[ServerReport] = []
        self.relays = Relays()
        self._pacer = pacer
        self._turn = Turn(pacer)
        self._make = CandidateMaker(foundations, relay_only=relay_only)
        self._relay_only = relay_only
        self._patience = patience
        self._keepalive_interval = keepalive_interval
        self._bases: dict[TransportAddress, _Base] = {}
        self._inquiries = Inquiries(relay_only=relay_only)
        self._all_servers_known = False
        self._complete = False
        self._begun_at: float | None = None
        self._mappings_until: float | None = None
        """How long gathering is not complete for want of port mappings."""
        self._relays_until = 0.0
        """How long gathering is not complete for want of relays that the driver goes for."""
        self._keeps_alive = True
        self._redirects = 0

    # -- what there is to gather from -------------------------------------------------------------------

    def add_base(
        self, base: TransportAddress, now: float, local_preference: int = MAX_LOCAL_PREFERENCE
    ) -> list[GathererOutput]:
        """A socket bound to `base`: a host candidate (5.1.1.1), and a place to ask the servers from."""
        self._begin(now)
        self._bases[base] = _Base(base, local_preference)
        outputs: list[GathererOutput] = []
        if not self._relay_only:
            outputs.append(CandidateFound(self._make.host(base, local_preference)))
        self._inquiries.add_base(base, local_preference)
        return outputs + self._work(now)

    def remove_base(self, base: TransportAddress, now: float) -> list[GathererOutput]:
        """The socket is gone, and the relays that were reached through it."""
        gone = self._bases.pop(base, None)
        if gone is None:
            return []
        for _, report in gone.tickets.values():
            report.failed("the interface is gone", now)
        self._inquiries.remove_base(base)
        return self.relayed(self.relays.remove_base(base, now), now) + self._work(now)

    def add_server(self, server: GatheringServer, now: float) -> list[GathererOutput]:
        self._begin(now)
        self._inquiries.add_server(server)
        return self._work(now)

    def no_more_servers(self, now: float) -> list[GathererOutput]:
        """All servers that could be resolved have been added."""
        self._all_servers_known = True
        return self._work(now)

    @property
    def servers(self) -> list[TransportAddress]:
        """Those that have been added, each of which answers Binding requests."""
        return [server.address for server in self._inquiries.servers]

    @property
    def all_servers_known(self) -> bool:
        return self._all_servers_known

    def _begin(self, now: float) -> None:
        if self._begun_at is None:
            self._begun_at = now

    # -- the network ------------------------------------------------------------------------------------

    def receive(
        self, data: bytes, local: TransportAddress, remote: TransportAddress, now: float
    ) -> list[GathererOutput] | None:
        """One datagram at the base `local`; None if it has nothing to do with gathering or relaying."""
        base = self._bases.get(local)
        if base is None:
            return None
        if is_stun(data):
            try:
                message = Message.decode(data)
            except DecodeError:
                return None
            if message.method == Method.BINDING:
                if message.transaction_id not in base.tickets:
                    return None
                return self._settle(base, base.bindings.receive(data, remote, now), now)
        outputs = self.relays.receive(data, local, remote, now)
        return None if outputs is None else self.relayed(outputs, now)

    def next_deadline(self) -> float | None:
        moments = [self.relays.next_deadline(), self._turn.next_at if self._inquiries else None]
        for base in self._bases.values():
            moments.append(base.bindings.next_deadline())
            if self._keeps_alive and base.mapped_by is not None:
                moments.append(base.keepalive_at)
        if not self._complete and self._begun_at is not None:
            moments.append(max(self._begun_at + self._patience, self._relays_until))
            moments.append(self._mappings_until)
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[GathererOutput]:
        outputs: list[GathererOutput] = []
        for base in list(self._bases.values()):
            outputs += self._settle(base, base.bindings.handle_timeout(now), now)
            if self._keeps_alive and base.mapped_by is not None and now >= base.keepalive_at:
                # Section 5.1.1.4: the binding must live until a check has used it.
                base.keepalive_at = now + self._keepalive_interval
                outputs.append(Transmit(form_keepalive(), base.address, base.mapped_by))
        if self._mappings_until is not None and now >= self._mappings_until:
            self._mappings_until = None
        outputs += self.relayed(self.relays.handle_timeout(now), now)
        return outputs + self._work(now)

    def stop_keepalives(self) -> None:
        """The server-reflexive addresses are no longer needed (section 8.3)."""
        self._keeps_alive = False

    def close(self, now: float) -> list[GathererOutput]:
        """Asks for nothing more, and gives all allocations back."""
        self._inquiries.clear()
        self._keeps_alive = False
        for base in self._bases.values():
            base.bindings, base.tickets = BindingRequests(), {}
        return self.relayed(self.relays.close(now), now)

    # -- relays that others reach -----------------------------------------------------------------------

    def expect_relay(
        self,
        server: str,
        transport: str,
        now: float,
        proxy: str = "",
        inquiry: Inquiry = Inquiry.ALLOCATION,
    ) -> ServerReport:
        """The driver goes for a relayed address over a connection, and gathering waits for it."""
        self._begin(now)
        report = ServerReport(server, inquiry, transport, None, now, proxy=proxy)
        self.reports.append(report)
        return report

    def begin_relay(self, report: ServerReport, now: float, until: float) -> None:
        """Its turn has come: gathering waits for it until then, whatever the patience with the others is."""
        report.begin(now)
        self._relays_until = max(self._relays_until, until)

    def add_relay(
        self,
        report: ServerReport,
        relayed: Sequence[TransportAddress],
        mapped: TransportAddress,
        server_host: str,
        index: int,
        now: float,
    ) -> list[GathererOutput]:
        """It was had: candidates whose packets the driver carries, one of each family that there is."""
        report.succeeded(relayed[0], now)
        best = max((base.local_preference for base in self._bases.values()), default=MAX_LOCAL_PREFERENCE)
        made = self._make.relayed(relayed, mapped, server_host, index, report, best)
        return [*map(CandidateFound, made), *self._work(now)]

    def add_tcp_relay(
        self,
        report: ServerReport,
        relayed: Sequence[TransportAddress],
        mapped: TransportAddress,
        server_host: str,
        index: int,
        now: float,
    ) -> list[GathererOutput]:
        """One for TCP was had: candidates to connect from and to be connected to."""
        report.succeeded(relayed[0], now)
        made = self._make.relayed_for_tcp(relayed, mapped, server_host, index, report)
        return [*map(CandidateFound, made), *self._work(now)]

    def settle_relay(self, report: ServerReport, reason: str, now: float) -> list[GathererOutput]:
        """It could not be had."""
        report.failed(reason, now)
        return self._work(now)

    # -- port mappings ----------------------------------------------------------------------------------

    def expect_mapping(
        self, gateway: str, base: TransportAddress, now: float, transport: str = "udp"
    ) -> ServerReport:
        """The driver goes for a port mapping for the socket at `base`."""
        self._begin(now)
        report = ServerReport(gateway, Inquiry.PORT_MAPPING, transport, base, now)
        self.reports.append(report)
        self._mappings_until = now + MAPPING_PATIENCE
        return report

    def add_mapping(
        self, report: ServerReport, external: TransportAddress, now: float
    ) -> list[GathererOutput]:
        """It was had: as good as a server-reflexive candidate, and open to everybody."""
        assert report.base is not None
        report.succeeded(external, now)
        base = self._bases.get(report.base)
        if base is None or self._relay_only or external == base.address:
            return self._work(now)
        if external in base.mapped:
            return [CandidateMapped(base.address, external), *self._work(now)]
        base.mapped.add(external)
        made = self._make.port_mapped(external, base.address, base.local_preference, report.server)
        return [CandidateFound(made), *self._work(now)]

    def settle_mapping(self, report: ServerReport, reason: str, now: float) -> list[GathererOutput]:
        """There is none."""
        report.failed(reason, now)
        return self._work(now)

    def remove_mapping(self, base: TransportAddress, external: TransportAddress) -> None:
        """The gateway forwards it no more."""
        if base in self._bases:
            self._bases[base].mapped.discard(external)

    def seen_as(self, base: TransportAddress) -> list[TransportAddress] | None:
        """How the STUN servers saw the socket at `base`; None while some of them may still answer."""
        asked = [
            report for report in self.reports if (report.inquiry, report.base) == (Inquiry.BINDING, base)
        ]
        answers = [report.result for report in asked if report.result is not None]
        if not answers and not (self._all_servers_known and all(report.is_settled for report in asked)):
            return None
        return answers

    # -- steps ------------------------------------------------------------------------------------------

    def _work(self, now: float) -> list[GathererOutput]:
        outputs: list[GathererOutput] = []
        while self._inquiries and self._turn.take(now):
            outputs += self._start(self._inquiries.take(), now)
        return outputs + self._conclude(now)

    def _start(self, task: Task, now: float) -> list[GathererOutput]:
        base, server = self._bases[task.base], task.server
        if task.inquiry is Inquiry.ALLOCATION:
            # Where one server sends its clients to another of ours (RFC 8489 section 10), or in a circle.
            if server.address in base.allocations:
                return []
            base.allocations.add(server.address)
        report = ServerReport(server.name, task.inquiry, "udp", task.base, now)
        self.reports.append(report)
        expected = len(self._inquiries) + sum(not report.is_settled for report in self.reports)
        rto = gathering_rto(self._pacer.interval, expected)
        if task.inquiry is Inquiry.BINDING:
            ticket, outputs = base.bindings.ask(server.address, now, BindingOptions(rto=rto))
            base.tickets[ticket] = (server, report)
            return self._settle(base, outputs, now)
        return self.relayed(self.relays.allocate(base.address, server, report, rto, now), now)

    def _settle(self, base: _Base, results: list[Send | Settled], now: float) -> list[GathererOutput]:
        outputs: list[GathererOutput] = []
        for result in results:
            if isinstance(result, Send):
                outputs.append(Transmit(result.data, base.address, result.to))
                continue
            server, report = base.tickets.pop(result.ticket)
            if isinstance(result.result, BindingAnswer):
                report.succeeded(result.result.mapped, now)
                outputs += self._mapped(base, server, result.result.mapped, now)
            else:
                report.failed(result.result.reason, now)
        return outputs + self._conclude(now)

    def _mapped(
        self, base: _Base, server: GatheringServer, mapped: TransportAddress, now: float
    ) -> list[GathererOutput]:
        if base.mapped_by is None:
            base.mapped_by, base.keepalive_at = server.address, now + self._keepalive_interval
        # Redundant (section 5.1.3): the host candidate itself where there is no NAT, or told by another
        # server or by the same one's answer to Allocate.
        if mapped == base.address or mapped in base.mapped or self._relay_only:
            return []
        base.mapped.add(mapped)
        return [CandidateFound(self._make.reflexive(mapped, base.address, base.local_preference, server))]

    def relayed(self, events: list[RelayOutput], now: float) -> list[GathererOutput]:
        """What the relays said: new ones become candidates, redirections tasks, the rest is passed on."""
        outputs: list[GathererOutput] = []
        for event in events:
            if isinstance(event, RelayOpened):
                outputs += self._opened(event, now)
            elif isinstance(event, RelayRedirected):
                self._redirected(event)
            else:
                outputs.append(event)
        return outputs + self._work(now) if events else outputs

    def _opened(self, opened: RelayOpened, now: float) -> list[GathererOutput]:
        base, server = self._bases[opened.base], opened.server
        # Section 5.1.1.2: the answer to Allocate holds a server-reflexive address as well.
        outputs = self._mapped(base, server, opened.mapped, now)
        made = self._make.relayed(
            opened.relayed,
            opened.mapped,
            server.address.host,
            server.index,
            opened.report,
            base.local_preference,
        )
        return [*outputs, *map(CandidateFound, made)]

    def _redirected(self, redirected: RelayRedirected) -> None:
        if self._redirects < _MAX_REDIRECTS:
            self._redirects += 1
            self._inquiries.add(Task(redirected.base, redirected.server, Inquiry.ALLOCATION))

    def _conclude(self, now: float) -> list[GathererOutput]:
        """Says once that gathering is complete: all has been answered, or there was time enough."""
        if self._complete or self._begun_at is None or not self._has_sources:
            return []
        settled = not self._inquiries and not any(map(self._is_awaited, self.reports))
        out_of_time = now >= self._begun_at + self._patience and not self._awaits_relays(now)
        if not (self._all_servers_known and settled) and not out_of_time:
            return []
        self._complete = True
        return [GatheringComplete()]

    @property
    def _has_sources(self) -> bool:
        """Whether candidates can come from anywhere: sockets, or relays that the driver goes for."""
        return bool(self._bases) or any(report.base is None for report in self.reports)

    def _awaits_relays(self, now: float) -> bool:
        return now < self._relays_until and any(
            report.base is None and not report.is_settled for report in self.reports
        )

    def _is_awaited(self, report: ServerReport) -> bool:
        if report.inquiry is Inquiry.PORT_MAPPING and self._mappings_until is None:
            return False
        return not report.is_settled
