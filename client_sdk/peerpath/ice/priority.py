"""Priorities of candidates and pairs (RFC 8445 sections 5.1.2 and 6.1.2.3), for both families (RFC 8421)."""

from __future__ import annotations

from collections.abc import Sequence

from peerpath.ice.candidate import COMPONENT, CandidateType, LocalCandidate, TcpType

# RFC 8445 section 5.1.2.2
TYPE_PREFERENCES: dict[CandidateType, int] = {
    CandidateType.HOST: 126,
    CandidateType.PEER_REFLEXIVE: 110,
    CandidateType.SERVER_REFLEXIVE: 100,
    CandidateType.RELAYED: 0,
}

# RFC 6544 section 4.2: below those of UDP, so that no connection is opened where datagrams get through.
STREAM_TYPE_PREFERENCES: dict[CandidateType, int] = {
    CandidateType.HOST: 90,
    CandidateType.PEER_REFLEXIVE: 85,
    CandidateType.SERVER_REFLEXIVE: 80,
}

MAX_LOCAL_PREFERENCE = 65535

# How far apart the local preferences of two interfaces are: room for the transports and servers of relays.
_INTERFACE_STEP = 256
_RELAY_STEP = 42
_RELAY_RANKS = {"udp": 0, "tcp": 1, "tls": 2, "ws": 3, "wss": 3}
_PROXY_RANKS = {"http": 4, "socks5": 4, "tor": 5}

# RFC 6544 section 4.2: the three topmost bits of the local preference say who opens the connection. What they
# leave, up to 57,343, puts a relay that meets its peer over TCP below all that do so over UDP.
_DIRECTION_PREFERENCES = {TcpType.ACTIVE: 6, TcpType.PASSIVE: 4, TcpType.SIMULTANEOUS: 2}
_MAX_OTHER_PREFERENCE = 8191


def candidate_priority(
    candidate_type: CandidateType,
    local_preference: int,
    component: int = COMPONENT,
    *,
    is_tcp: bool = False,
) -> int:
    """RFC 8445 section 5.1.2.1; `local_preference` is 0 to 65535, `component` 1 to 256."""
    is_direct_stream = is_tcp and candidate_type is not CandidateType.RELAYED
    preferences = STREAM_TYPE_PREFERENCES if is_direct_stream else TYPE_PREFERENCES
    return preferences[candidate_type] << 24 | local_preference << 8 | (256 - component)


def pair_priority(controlling: int, controlled: int) -> int:
    """RFC 8445 section 6.1.2.3, from the priorities of the two agents' candidates."""
    smaller, larger = sorted((controlling, controlled))
    return (smaller << 32) + 2 * larger + (1 if controlling > controlled else 0)


def peer_reflexive_priority(local: LocalCandidate) -> int:
    """What a check from `local` says in PRIORITY (RFC 8445 section 7.1.1).

    That of a peer-reflexive candidate, except from a relayed base, where it is the relayed candidate's own:
    whatever the peer learns from such a check is relayed all the same, and 110 would pass it for direct until
    the candidate itself arrives.
    """
    if local.type is CandidateType.RELAYED:
        return local.priority
    candidate = local.candidate
    return candidate_priority(
        CandidateType.PEER_REFLEXIVE, local.local_preference, candidate.component, is_tcp=candidate.is_tcp
    )


def local_preferences(hosts: Sequence[str]) -> dict[str, int]:
    """The local preference of each host address of this machine, best first; order is the system's liking.

    RFC 8421 section 4: IPv6 and IPv4 addresses are interleaved in the ratio of their numbers, IPv6 first, so
    that no family has to wait until the other's checks are over.
    """
    ipv6 = [host for host in hosts if ":" in host]
    ipv4 = [host for host in hosts if ":" not in host]
    preferences = {}
    preference = MAX_LOCAL_PREFERENCE
    while ipv6 or ipv4:
        # The family with more addresses left goes next, IPv6 where there is a tie.
        host = (ipv6 if len(ipv6) >= len(ipv4) else ipv4).pop(0)
        preferences[host] = preference
        preference = max(0, preference - _INTERFACE_STEP)
    return preferences


def relay_preference(
    local_preference: int, transport: str, server_index: int, proxy: str = "", number: int = 0
) -> int:
    """The local preference of a relayed candidate: datagrams before streams, then the order of the servers.

    RFC 8445 section 5.1.2.2 wants candidates of one type told apart; relays to the same server differ by what
    carries them, and one carried by TCP suffers from each lost packet. Proxies are a detour, Tor a long one.
    `number` is that of the address among those of its allocation, which has one of each family.
    """
    rank = _PROXY_RANKS[proxy] if proxy else _RELAY_RANKS[transport]
    order = min(2 * server_index + number, _RELAY_STEP - 1)
    return max(0, local_preference - rank * _RELAY_STEP - order)


def tcp_relay_preference(
    tcp_type: TcpType, transport: str, server_index: int, proxy: str = "", number: int = 0
) -> int:
    """The local preference of a relayed candidate that meets its peer over TCP (RFC 6544 section 4.2)."""
    other = relay_preference(_MAX_OTHER_PREFERENCE, transport, server_index, proxy, number)
    return _DIRECTION_PREFERENCES[tcp_type] << 13 | other
