"""Send indications (RFC 8656 section 11.2): data for a permitted peer, and silence about everything else."""

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    DATA,
    DONT_FRAGMENT,
    LIFETIME,
    SOFTWARE,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    Attribute,
    Message,
    MessageClass,
    Method,
)
from turnrelay.core.events import PeerDenied
from turnrelay.core.outputs import SendToPeer
from turnrelay.core.protocols import DenyRule
from turnrelay.core.state import Discard
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    OTHER_PEER,
    PEER,
    PEER6,
    SAME_HOST,
    accepted,
    form_send,
    only,
    tcp,
    udp,
)

TO_PEER = XOR_PEER_ADDRESS, PEER
DUAL = ADDITIONAL_ADDRESS_FAMILY, AddressFamily.IPV6


@pytest.fixture
def relay(alice):
    """A relayed address with a permission for the host of PEER."""
    relay = accepted(alice.allocate((LIFETIME, 3600))).get(XOR_RELAYED_ADDRESS)
    alice.permit(PEER)
    return relay


@pytest.mark.parametrize("data", [b"", b"x", b"data", bytes(1200), bytes(65_000)])
def test_data_goes_to_the_peer_from_the_relayed_address(alice, relay, data):
    """The DATA attribute is allowed to contain zero bytes of data."""
    assert alice.send(PEER, data, now=1) == [SendToPeer(relay, PEER, data, False)]


def test_any_port_of_the_host_will_do(alice, relay):
    assert alice.send(SAME_HOST, b"x", now=1) == [SendToPeer(relay, SAME_HOST, b"x", False)]


def test_dont_fragment_is_passed_on(alice, relay):
    assert alice.send(PEER, b"x", (DONT_FRAGMENT, True)) == [SendToPeer(relay, PEER, b"x", True)]


V4_CLIENT, V6_CLIENT = ("198.51.100.15", 40000), ("2001:db8::15", 40000)


@pytest.mark.parametrize("client", [V4_CLIENT, V6_CLIENT])
@pytest.mark.parametrize("address", [PEER, PEER6])
def test_over_a_stream_dont_fragment_always_counts(world, client, address):
    """Section 15: the server relies on the attribute, over IPv4 and IPv6."""
    client = world.client(tcp(*client))
    client.allocate(DUAL)
    client.permit(address)
    [sent] = only(client.send(address, b"x", (DONT_FRAGMENT, True)), SendToPeer)
    assert sent.dont_fragment is True


@pytest.mark.parametrize(
    ("client", "address"),
    [
        pytest.param(V4_CLIENT, PEER6, id="IPv4 to IPv6"),
        pytest.param(V6_CLIENT, PEER6, id="IPv6 to IPv6"),
        pytest.param(V6_CLIENT, PEER, id="IPv6 to IPv4"),
    ],
)
def test_in_translations_between_datagrams_dont_fragment_is_ignored(world, client, address):
    """Sections 13.1 to 13.3: the DONT-FRAGMENT attribute MUST be ignored by the server."""
    client = world.client(udp(*client))
    client.allocate(DUAL)
    client.permit(address)
    [sent] = only(client.send(address, b"x", (DONT_FRAGMENT, True)), SendToPeer)
    assert sent.dont_fragment is False


def test_each_family_leaves_from_its_own_relay(alice):
    relays = accepted(alice.allocate(DUAL)).get_all(XOR_RELAYED_ADDRESS)
    alice.permit(PEER, PEER6)
    assert alice.send(PEER, b"4") == [SendToPeer(relays[0], PEER, b"4", False)]
    assert alice.send(PEER6, b"6") == [SendToPeer(relays[1], PEER6, b"6", False)]


def test_a_bound_channel_does_not_matter(alice, relay):
    """Section 11.1: a client may use a Send indication even if a channel is bound to that peer."""
    alice.bind(0x4000, PEER)
    assert alice.send(PEER, b"x", now=1) == [SendToPeer(relay, PEER, b"x", False)]


def test_optional_attributes_are_ignored(alice, relay):
    extra = (SOFTWARE, "a client"), (Attribute.opaque(0xFF00, "?"), b"x")
    assert len(only(alice.send(PEER, b"x", *extra), SendToPeer)) == 1


# -- silence ------------------------------------------------------------------------------------------------


def test_without_allocation(world, alice):
    assert alice.send(PEER, b"x") == []
    assert world.state.discards == {Discard.SEND_WITHOUT_ALLOCATION: 1}


def test_by_another_5_tuple(world, alice, relay):
    assert world.client(ELSEWHERE).send(PEER, b"x") == []


def test_without_permission(world, alice, relay):
    assert alice.send(OTHER_PEER, b"x") == []
    assert world.state.discards == {Discard.SEND_WITHOUT_PERMISSION: 1}


def test_after_its_permission(world, alice, relay):
    assert alice.send(PEER, b"x", now=299.9)
    assert not only(alice.send(PEER, b"x", now=300), SendToPeer)
    world.sleep(300)
    assert alice.send(PEER, b"x", now=300) == []


def test_after_its_allocation(world, alice, relay):
    alice.refresh(0, now=1)
    assert alice.send(PEER, b"x", now=2) == []


@pytest.mark.parametrize(
    "pairs",
    [[], [TO_PEER], [(DATA, b"x")], [TO_PEER, (DONT_FRAGMENT, True)]],
    ids=["both", "DATA", "peer", "DF"],
)
def test_without_what_it_needs(world, alice, relay, pairs):
    assert world.deliver(form_send(*pairs), HERE, 1) == []
    assert world.state.discards == {Discard.MALFORMED: 1}


@pytest.mark.parametrize("kind", [0x7F00, 0x0003, 0x0024])
def test_with_an_unknown_required_attribute(alice, relay, kind):
    """RFC 8489 section 6.3.2: the indication is discarded and processing ceases."""
    value = bytes(4)
    assert alice.send(PEER, b"x", (Attribute.opaque(kind, "?"), value)) == []


@pytest.mark.parametrize("value", [b"", b"\0\1\0\0", b"\0\3\0\0\0\0\0\0"])
def test_with_an_invalid_peer(world, alice, relay, value):
    invalid = Attribute.opaque(XOR_PEER_ADDRESS.type, "XOR-PEER-ADDRESS"), value
    assert world.deliver(form_send(invalid, (DATA, b"x")), HERE, 1) == []
    assert world.state.discards == {Discard.MALFORMED: 1}


def test_of_a_family_the_allocation_lacks(alice, relay):
    assert alice.send(PEER6, b"x") == []


def test_to_a_denied_port_of_a_permitted_host(world, alice, relay):
    """Section 11.2: restrictions of address and port are allowed, and only the operator hears of it."""
    world.peers.denied.add(SAME_HOST)
    assert alice.send(SAME_HOST, b"x") == [PeerDenied(HERE, "alice", DenyRule.OWN_PORT, world.id_at(HERE))]
    assert only(alice.send(PEER, b"x"), SendToPeer)


def test_to_a_host_that_was_denied_since(world, alice, relay):
    world.peers.denied_hosts.add(PEER.host)
    assert alice.send(PEER, b"x") == [PeerDenied(HERE, "alice", DenyRule.SPECIAL_PURPOSE, world.id_at(HERE))]


def test_signing_it_makes_no_difference(world, alice, relay):
    """Section 5: indications in TURN are never authenticated."""
    message = Message(MessageClass.INDICATION, Method.SEND)
    message.add(XOR_PEER_ADDRESS, OTHER_PEER).add(DATA, b"x")
    assert world.deliver(message.encode(alice.key), HERE, 1) == []


def test_what_was_appended_behind_a_seal_is_ignored(world, alice, relay):
    message = Message(MessageClass.INDICATION, Method.SEND).add(XOR_PEER_ADDRESS, PEER)
    sealed = message.encode(alice.key)
    data = bytes([0, 0x13, 0, 4]) + b"evil"
    length = (len(sealed) - 20 + len(data)).to_bytes(2, "big")
    assert world.deliver(sealed[:2] + length + sealed[4:] + data, HERE, 1) == []


def test_it_costs_no_request(world, alice, relay):
    """Data is bounded by bandwidth, not by the rate of requests."""
    for _ in range(1000):
        assert alice.send(PEER, b"x", now=1)
    accepted(alice.refresh(600, now=1))
