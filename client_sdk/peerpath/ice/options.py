"""AgentOptions: what the user of an agent may set."""

from __future__ import annotations

from dataclasses import dataclass, field

from peerpath.ice.address_policy import AddressPolicy


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Times are in seconds."""

    relay_only: bool = False
    """Only relayed candidates are used and named: the peer learns no address of this machine."""
    tcp: bool = False
    """Use the peer's TCP candidates (RFC 6544) as well."""
    renomination: bool = True
    """Offer to move a nominated path to a better one without a restart; done if the peer offers it too."""
    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    """Where checks may go."""
    max_remote_candidates: int = 100
    max_peer_reflexive: int = 10
    """How many remote candidates may be learned from checks at one base, instead of from signaling."""
    max_pairs: int = 100
    """RFC 8445 section 6.1.2.5: the pairs of a check list, and the pairs ever checked in one session."""
    direct_grace: float = 0.1
    """How long a valid direct pair waits for better ones before it is nominated."""
    relay_grace: float = 0.5
    """The same for a relayed pair, where the peer lets it be replaced later."""
    final_relay_grace: float = 1.5
    """The same for a relayed pair where the first nomination is the last (RFC 8445 section 8.1.1)."""
    backups: int = 1
    """Valid pairs kept alive beside the selected one, to fall back on."""
    consent: bool = True
    """Consent freshness (RFC 7675). Off only for peers that do not answer checks once they are connected."""
    keepalive_interval: float = 15.0
    """How long a NAT's mapping towards a server goes without a packet, and a pair without consent checks:
    Tr of RFC 8445 section 11, which wants at least these 15 seconds."""
    linger: float = 10.0
    """How long after a restart the old session still answers, once the new one has a path."""
    recovery: float = 15.0
    """How long all pairs are tried again after the last path was lost, before the agent gives up."""
