"""CandidateMaker: the candidates of this side, with priorities and foundations (RFC 8445 section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stunwire import TransportAddress

from peerpath.ice.candidate import (
    DISCARD_PORT,
    Candidate,
    CandidateType,
    LocalCandidate,
    TcpType,
    Technique,
)
from peerpath.ice.foundation import Foundations
from peerpath.ice.priority import candidate_priority, relay_preference, tcp_relay_preference
from peerpath.ice.servers import GatheringServer, ServerReport


class CandidateMaker:
    """With `relay_only` a relayed candidate does not name the address that its server saw."""

    def __init__(self, foundations: Foundations, *, relay_only: bool) -> None:
        self._foundations = foundations
        self._relay_only = relay_only

    def host(self, base: TransportAddress, local_preference: int) -> LocalCandidate:
        return self._of_socket(CandidateType.HOST, base, base, local_preference)

    def reflexive(
        self, mapped: TransportAddress, base: TransportAddress, local_preference: int, server: GatheringServer
    ) -> LocalCandidate:
        """What `server` saw `base` as."""
        kind, host = CandidateType.SERVER_REFLEXIVE, server.address.host
        return self._of_socket(kind, mapped, base, local_preference, host, server.name)

    def port_mapped(
        self, external: TransportAddress, base: TransportAddress, local_preference: int, gateway: str
    ) -> LocalCandidate:
        """What `gateway` forwards to `base`: as a server-reflexive one, and open to everybody."""
        kind, server = CandidateType.SERVER_REFLEXIVE, f"mapping {gateway}"
        made = self._of_socket(kind, external, base, local_preference, server, gateway)
        return replace(made, technique=Technique.PORT_MAPPING)

    def relayed(
        self,
        relayed: Sequence[TransportAddress],
        mapped: TransportAddress,
        server_host: str,
        index: int,
        report: ServerReport,
        local_preference: int,
    ) -> list[LocalCandidate]:
        """Of one allocation: one for each family that it has, all of one base's preference."""
        made = []
        for number, address in enumerate(relayed):
            preference = relay_preference(local_preference, report.transport, index, report.proxy, number)
            candidate = Candidate(
                CandidateType.RELAYED,
                address,
                candidate_priority(CandidateType.RELAYED, preference),
                self._foundations.of(CandidateType.RELAYED, address.host, server_host),
                related=self._shown(mapped),
            )
            made.append(_by_relay(candidate, address, preference, report))
        return made

    def relayed_for_tcp(
        self,
        relayed: Sequence[TransportAddress],
        mapped: TransportAddress,
        server_host: str,
        index: int,
        report: ServerReport,
    ) -> list[LocalCandidate]:
        """Of each family a place to connect from, and one to be connected to (RFC 6544 section 5.2).

        Both have the relayed address as their base, from which the relay connects as well, so that the
        connection of two such addresses is one, whoever opens it.
        """
        made = []
        for number, address in enumerate(relayed):
            for tcp_type in (TcpType.ACTIVE, TcpType.PASSIVE):
                preference = tcp_relay_preference(tcp_type, report.transport, index, report.proxy, number)
                port = DISCARD_PORT if tcp_type is TcpType.ACTIVE else address.port
                transport = f"tcp {tcp_type.value}"
                candidate = Candidate(
                    CandidateType.RELAYED,
                    TransportAddress(address.host, port),
                    candidate_priority(CandidateType.RELAYED, preference, is_tcp=True),
                    self._foundations.of(CandidateType.RELAYED, address.host, server_host, transport),
                    transport="tcp",
                    related=self._shown(mapped),
                    extensions=(("tcptype", tcp_type.value),),
                )
                made.append(_by_relay(candidate, address, preference, report))
        return made

    def _of_socket(
        self,
        kind: CandidateType,
        address: TransportAddress,
        base: TransportAddress,
        local_preference: int,
        server_host: str = "",
        server: str = "",
    ) -> LocalCandidate:
        candidate = Candidate(
            kind,
            address,
            candidate_priority(kind, local_preference),
            self._foundations.of(kind, base.host, server_host),
            related=None if kind is CandidateType.HOST else base,
        )
        return LocalCandidate(candidate, base, local_preference, server)

    def _shown(self, mapped: TransportAddress) -> TransportAddress | None:
        return None if self._relay_only else mapped


def _by_relay(
    candidate: Candidate, relayed: TransportAddress, preference: int, report: ServerReport
) -> LocalCandidate:
    return LocalCandidate(
        candidate, relayed, preference, report.server, via=report.transport, proxy=report.proxy
    )
