"""Send indications (RFC 8656 section 11.2): data for a peer, without an answer whatever happens."""

from stunwire import DATA, DONT_FRAGMENT, XOR_PEER_ADDRESS, AddressFamily, Message

from turnrelay.core.addresses import FiveTuple, PeerAddress, family_of
from turnrelay.core.events import PeerDenied
from turnrelay.core.outputs import Output, SendToPeer
from turnrelay.core.state import Discard, State
from turnrelay.core.understood import not_understood


def send(state: State, message: Message, path: FiveTuple, now: float) -> list[Output]:
    """One datagram to a permitted peer; everything else is silently discarded.

    Policy is asked again, since a permission covers a host with all its ports, and some ports are the
    server's own.
    """
    allocation = state.allocations.get(path)
    peer_address, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
    if allocation is None or allocation.tcp:
        return _discarded(state, Discard.SEND_WITHOUT_ALLOCATION)
    if peer_address is None or data is None or not_understood(message):
        return _discarded(state, Discard.MALFORMED)
    peer = PeerAddress(peer_address)
    relay = allocation.relays.get(family_of(peer.host))
    if relay is None or not allocation.permits(peer, now):
        return _discarded(state, Discard.SEND_WITHOUT_PERMISSION)
    rule = state.check_peer(peer)
    if rule is not None:
        return [PeerDenied(path, allocation.credential.account, rule, allocation.allocation_id)]
    return [SendToPeer(relay.address, peer, data, DONT_FRAGMENT in message and _may_set_df(path, peer))]


def _discarded(state: State, reason: Discard) -> list[Output]:
    state.discards[reason] += 1
    return []


def _may_set_df(path: FiveTuple, peer: PeerAddress) -> bool:
    """RFC 8656 section 13: from datagram to datagram the attribute is for IPv4 to IPv4 alone."""
    ipv4 = AddressFamily.IPV4
    return path.transport.reliable or family_of(path.client.host) is family_of(peer.host) is ipv4
