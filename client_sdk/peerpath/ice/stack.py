"""IceStack: the agent, the gatherer and their relays as one sans-IO core on a set of sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

from stunwire import TransportAddress

from peerpath.ice.agent import IceAgent
from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate, TcpType, Technique
from peerpath.ice.description import Description
from peerpath.ice.foundation import Foundations
from peerpath.ice.gatherer import Gatherer, GathererOutput
from peerpath.ice.options import AgentOptions
from peerpath.ice.outputs import (
    CandidateFound,
    CandidateMapped,
    GatheringComplete,
    Output,
    PairSelected,
    PermissionNeeded,
    Transmit,
)
from peerpath.ice.pacer import Pacer
from peerpath.ice.priority import MAX_LOCAL_PREFERENCE, candidate_priority
from peerpath.ice.relays import PeerRefused, RelayClosed, RelayData
from peerpath.ice.role import Role
from peerpath.ice.servers import GatheringServer, ServerReport


class IceStack:
    """What a driver, or a simulated network, runs. All methods are those of the agent and the gatherer.

    Every Transmit leaves from the address of a socket, those through relays included. Only packets from
    relayed addresses that came by `add_relay` are left to the driver, as are PermissionNeeded for them.
    """

    def __init__(
        self,
        role: Role,
        *,
        options: AgentOptions | None = None,
        pacer: Pacer | None = None,
        patience: float = 10.0,
        random: Random | None = None,
    ) -> None:
        options, pacer, foundations = options or AgentOptions(), pacer or Pacer(), Foundations()
        self._foundations = foundations
        self.agent = IceAgent(role, options=options, pacer=pacer, foundations=foundations, random=random)
        self.gatherer = Gatherer(
            pacer=pacer,
            foundations=foundations,
            relay_only=options.relay_only,
            patience=patience,
            keepalive_interval=options.keepalive_interval,
        )

    # -- gathering --------------------------------------------------------------------------------------

    def add_base(
        self, base: TransportAddress, now: float, local_preference: int = MAX_LOCAL_PREFERENCE
    ) -> list[Output]:
        """A socket bound to `base`."""
        return self._carry(self.gatherer.add_base(base, now, local_preference), now)

    def remove_base(self, base: TransportAddress, reason: str, now: float) -> list[Output]:
        """The socket is gone."""
        outputs = self._carry(self.gatherer.remove_base(base, now), now)
        return outputs + self._carry(self.agent.remove_base(base, reason, now), now)

    def adopt_base(self, base: TransportAddress, technique: Technique) -> None:
        """A socket that no candidate was gathered for, and at which a check of the peer's has arrived."""
        candidate = Candidate(
            CandidateType.HOST,
            base,
            candidate_priority(CandidateType.HOST, MAX_LOCAL_PREFERENCE),
            self._foundations.of(CandidateType.HOST, base.host),
        )
        self.agent.adopt(LocalCandidate(candidate, base, technique=technique))

    def add_tcp_candidate(
        self,
        base: TransportAddress,
        tcp_type: TcpType,
        local_preference: int,
        now: float,
        mapped: tuple[TransportAddress, str] | None = None,
        technique: Technique = Technique.NONE,
    ) -> list[Output]:
        """A place to open connections from or to: a host candidate, or with `mapped`, the public address of
        the base and the host of the server that saw it, a server-reflexive one."""
        kind, address, server = CandidateType.HOST, base, ""
        if mapped is not None:
            kind, (address, server) = CandidateType.SERVER_REFLEXIVE, mapped
        candidate = Candidate(
            kind,
            address,
            candidate_priority(kind, local_preference, is_tcp=True),
            self._foundations.of(kind, base.host, server, f"tcp {tcp_type.value}"),
            transport="tcp",
            related=None if mapped is None else base,
            extensions=(("tcptype", tcp_type.value),),
        )
        local = LocalCandidate(candidate, base, local_preference, server, technique=technique)
        return self._carry([CandidateFound(local)], now)

    def connection_lost(
        self, base: TransportAddress, remote: TransportAddress, reason: str, now: float
    ) -> list[Output]:
        return self._carry(self.agent.connection_lost(base, remote, reason, now), now)

    def set_punching(self, is_punching: bool, now: float) -> list[Output]:
        """While it goes on, the absence of pairs is no failure."""
        self.agent.is_punching = is_punching
        return self._carry(self.agent.handle_timeout(now), now)

    def set_climbing(self, is_climbing: bool, now: float) -> list[Output]:
        """While more relayed addresses may come, neither."""
        self.agent.is_climbing = is_climbing
        return self._carry(self.agent.handle_timeout(now), now)

    def add_server(self, server: GatheringServer, now: float) -> list[Output]:
        return self._carry(self.gatherer.add_server(server, now), now)

    def no_more_servers(self, now: float) -> list[Output]:
        return self._carry(self.gatherer.no_more_servers(now), now)

    def add_relay(
        self,
        report: ServerReport,
        relayed: Sequence[TransportAddress],
        mapped: TransportAddress,
        server_host: str,
        index: int,
        now: float,
    ) -> list[Output]:
        """Relayed addresses, one of a family, whose packets the driver carries.

        `report` came from `gatherer.expect_relay`.
        """
        return self._carry(self.gatherer.add_relay(report, relayed, mapped, server_host, index, now), now)

    def add_tcp_relay(
        self,
        report: ServerReport,
        relayed: Sequence[TransportAddress],
        mapped: TransportAddress,
        server_host: str,
        index: int,
        now: float,
    ) -> list[Output]:
        """The same for those that meet peers over TCP, whose connections the driver makes."""
        found = self.gatherer.add_tcp_relay(report, relayed, mapped, server_host, index, now)
        return self._carry(found, now)

    def add_mapping(self, report: ServerReport, external: TransportAddress, now: float) -> list[Output]:
        """A port mapping that leads to a socket; `report` came from `gatherer.expect_mapping`."""
        return self._carry(self.gatherer.add_mapping(report, external, now), now)

    def add_tcp_mapping(
        self, report: ServerReport, external: TransportAddress, local_preference: int, now: float
    ) -> list[Output]:
        """The same for a place where connections are taken."""
        assert report.base is not None
        report.succeeded(external, now)
        if external == report.base:
            return []
        mapped = (external, report.server)
        return self.add_tcp_candidate(
            report.base, TcpType.PASSIVE, local_preference, now, mapped, Technique.PORT_MAPPING
        )

    def settle_mapping(self, report: ServerReport, reason: str, now: float) -> list[Output]:
        return self._carry(self.gatherer.settle_mapping(report, reason, now), now)

    def remove_mapping(self, base: TransportAddress, external: TransportAddress) -> None:
        """It is no more: pairs that use it lose their consent, new ones do not come."""
        self.gatherer.remove_mapping(base, external)
        self.agent.candidates.remove(base, external)

    def settle_relay(self, report: ServerReport, reason: str, now: float) -> list[Output]:
        return self._carry(self.gatherer.settle_relay(report, reason, now), now)

    def remove_relay(self, relayed: TransportAddress, reason: str, now: float) -> list[Output]:
        """A relayed address of the driver's is no more."""
        return self._carry(self.agent.remove_base(relayed, reason, now), now)

    def refuse(self, relayed: TransportAddress, host: str, reason: str, now: float) -> list[Output]:
        """A relay of the driver's carries nothing to `host`."""
        return self._carry(self.agent.refuse(relayed, host, reason, now), now)

    # -- signaling --------------------------------------------------------------------------------------

    @property
    def description(self) -> Description:
        return self.agent.description

    def set_remote(self, description: Description, now: float) -> list[Output]:
        return self._carry(self.agent.set_remote(description, now), now)

    def add_remote_candidate(self, candidate: Candidate, now: float) -> list[Output]:
        return self._carry(self.agent.add_remote_candidate(candidate, now), now)

    def end_of_remote_candidates(self, now: float) -> list[Output]:
        return self._carry(self.agent.end_of_remote_candidates(now), now)

    def doubt(self, now: float) -> list[Output]:
        return self._carry(self.agent.doubt(now), now)

    def restart(self, now: float) -> list[Output]:
        return self._carry(self.agent.restart(now), now)

    # -- the network ------------------------------------------------------------------------------------

    def receive(
        self, data: bytes, local: TransportAddress, remote: TransportAddress, now: float
    ) -> list[Output]:
        """One datagram at a socket, or at a relayed address of the driver's."""
        gathered = self.gatherer.receive(data, local, remote, now)
        if gathered is not None:
            return self._carry(gathered, now)
        return self._carry(self.agent.receive(data, local, remote, now), now)

    def send(self, data: bytes, now: float) -> list[Output]:
        """Data for the peer; NotConnected when there is no path."""
        return self._carry(self.agent.send(data, now), now)

    def next_deadline(self) -> float | None:
        moments = (self.agent.next_deadline(), self.gatherer.next_deadline())
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        outputs = self._carry(self.gatherer.handle_timeout(now), now)
        return outputs + self._carry(self.agent.handle_timeout(now), now)

    def close(self, now: float) -> list[Output]:
        """Ends the session and gives the relays back."""
        outputs = self._carry(self.agent.close(now), now)
        return outputs + self._carry(self.gatherer.close(now), now)

    # -- between the two --------------------------------------------------------------------------------

    def _carry(self, results: Sequence[Output | GathererOutput], now: float) -> list[Output]:
        """Hands what one part said to the other, until only what concerns the driver is left."""
        relays = self.gatherer.relays
        outputs: list[Output] = []
        waiting: deque[Output | GathererOutput] = deque(results)
        while waiting:
            result = waiting.popleft()
            if isinstance(result, Transmit) and result.local in relays:
                sent = relays.send(result.local, result.remote, result.data, now)
                waiting.extendleft(reversed(self.gatherer.relayed(sent, now)))
            elif isinstance(result, PermissionNeeded) and result.relay in relays:
                sent = relays.permit(result.relay, result.peer, now)
                waiting.extendleft(reversed(self.gatherer.relayed(sent, now)))
            elif isinstance(result, RelayData):
                waiting.extend(self.agent.receive(result.data, result.relay, result.peer, now))
            elif isinstance(result, PeerRefused):
                waiting.extend(self.agent.refuse(result.relay, result.host, result.reason, now))
            elif isinstance(result, RelayClosed):
                waiting.extend(self.agent.remove_base(result.relay, result.reason, now))
            else:
                outputs.append(result)
                waiting.extend(self._react(result, now))
        return outputs

    def _react(self, output: Output, now: float) -> Sequence[Output | GathererOutput]:
        if isinstance(output, CandidateFound):
            return self.agent.add_local_candidate(output.candidate, now)
        if isinstance(output, CandidateMapped):
            self.agent.candidates.mapped(output.base, output.address)
        if isinstance(output, GatheringComplete):
            return self.agent.end_of_local_candidates(now)
        if isinstance(output, PairSelected):
            path = output.path
            if path.nominated:
                self.gatherer.stop_keepalives()
            if path.local.type is CandidateType.RELAYED and path.local.base in self.gatherer.relays:
                bound = self.gatherer.relays.bind(path.local.base, path.remote.address, now)
                return self.gatherer.relayed(bound, now)
        return ()
