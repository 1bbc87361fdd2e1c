"""LocalCandidates: the candidates of this side. They outlive restarts, as the sockets do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stunwire import TransportAddress

from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate, Technique
from peerpath.ice.foundation import Foundations
from peerpath.ice.priority import peer_reflexive_priority


class LocalCandidates:
    """By base; each base has one candidate that can be sent from, and reflexive ones."""

    def __init__(self, foundations: Foundations) -> None:
        self._by_base: dict[TransportAddress, list[LocalCandidate]] = {}
        self._foundations = foundations
        self.ended = False
        """No further one will be gathered."""

    def __iter__(self) -> Iterator[LocalCandidate]:
        for candidates in self._by_base.values():
            yield from candidates

    def add(self, candidate: LocalCandidate) -> bool:
        """False if it is redundant: same address, same base (RFC 8445 section 5.1.3)."""
        siblings = self._by_base.setdefault(candidate.base, [])
        if any(known.address == candidate.address for known in siblings):
            return False
        siblings.append(candidate)
        return True

    def mapped(self, base: TransportAddress, address: TransportAddress) -> None:
        """A candidate that is known already has turned out to be the outer end of a port mapping."""
        self._by_base[base] = [
            replace(known, technique=Technique.PORT_MAPPING) if known.address == address else known
            for known in self._by_base.get(base, ())
        ]

    def remove(self, base: TransportAddress, address: TransportAddress) -> None:
        """One that was learned of a base which stays."""
        siblings = self._by_base.get(base, [])
        siblings[:] = [known for known in siblings if known.address != address]

    def remove_base(self, base: TransportAddress) -> bool:
        return self._by_base.pop(base, None) is not None

    def sender(self, base: TransportAddress) -> LocalCandidate | None:
        """The candidate that stands for the base in pairs: the host or relayed one where it is in use."""
        siblings = self._by_base.get(base)
        if not siblings:
            return None
        return min(siblings, key=lambda candidate: candidate.is_reflexive)

    def seen_as(self, sender: LocalCandidate, address: TransportAddress) -> LocalCandidate:
        """The candidate of the base that the peer saw; peer-reflexive ones are new (section 7.2.5.3.1)."""
        siblings = self._by_base.setdefault(sender.base, [])
        for known in siblings:
            if known.address == address:
                return known
        learned = LocalCandidate(
            Candidate(
                CandidateType.PEER_REFLEXIVE,
                address,
                peer_reflexive_priority(sender),
                self._foundations.of(
                    CandidateType.PEER_REFLEXIVE, sender.base.host, transport=sender.candidate.transport
                ),
                transport=sender.candidate.transport,
                related=sender.base,
                extensions=sender.candidate.extensions,
            ),
            sender.base,
            sender.local_preference,
            technique=sender.technique,
        )
        siblings.append(learned)
        return learned
