"""CreatePermission (RFC 8656 sections 9 and 10.2): which hosts data may go to and come from, how long."""

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    Attribute,
    Method,
)
from turnrelay.core.events import PeerDenied
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import ChannelFlow, Grant, PermissionFlow, Revoke, SendToPeer
from turnrelay.core.protocols import DenyRule
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    OTHER_PEER,
    PEER,
    PEER6,
    SAME_HOST,
    accepted,
    only,
    peer,
    refused,
    reply,
    sealed_with,
    tlvs,
    udp,
)

IPV6 = AddressFamily.IPV6


@pytest.fixture
def relay(alice):
    return accepted(alice.allocate((LIFETIME, 3600))).get(XOR_RELAYED_ADDRESS)


def passes(client, address, now):
    """Whether data to `address` passes."""
    return bool(only(client.send(address, b"x", now=now), SendToPeer))


def test_a_permission_is_granted_for_300_seconds(alice, relay):
    outputs = alice.permit(PEER, now=100)
    accepted(outputs)
    assert only(outputs, Grant) == [Grant(PermissionFlow(HERE, relay, PEER.host), 400)]


def test_success_carries_nothing_but_its_seal(alice, relay):
    """Section 10.2: there are no mandatory attributes in the success response."""
    data = reply(alice.permit(PEER)).data
    assert data[:2] == b"\x01\x08"
    assert [kind for kind, _ in tlvs(data)] == [0x0008]
    assert sealed_with(data, alice.key) == {"sha1"}


def test_several_peers_at_once(alice, relay):
    outputs = alice.permit(PEER, OTHER_PEER, peer("203.0.113.7", 1), now=10)
    accepted(outputs)
    hosts = [grant.flow.peer_host for grant in only(outputs, Grant)]
    assert hosts == ["203.0.113.5", "203.0.113.6", "203.0.113.7"]


def test_as_many_peers_as_a_message_holds(alice, relay):
    """Four attributes are credentials and seal; a decoder's bound on attributes leaves room for the rest."""
    peers = [peer(f"203.0.113.{number}", 1) for number in range(60)]
    assert len(only(alice.permit(*peers), Grant)) == 60


def test_a_host_named_twice_is_one_permission(alice, relay):
    outputs = alice.permit(PEER, SAME_HOST, PEER)
    assert len(only(outputs, Grant)) == 1


@pytest.mark.parametrize("port", [0, 1, 6000, 65535])
def test_the_port_is_ignored(alice, relay, port):
    """Section 10.2: it may be any arbitrary value; section 9: only addresses are compared."""
    accepted(alice.permit(peer(PEER.host, port)))
    assert passes(alice, PEER, 1)
    assert passes(alice, SAME_HOST, 1)
    assert not passes(alice, OTHER_PEER, 1)


# -- lifetime -----------------------------------------------------------------------------------------------


def test_a_permission_ends_at_exactly_300_seconds(world, alice, relay):
    alice.permit(PEER, now=100)
    assert world.sleep(399.999) == []
    assert passes(alice, PEER, 399.999)
    assert world.sleep(400) == [Revoke(PermissionFlow(HERE, relay, PEER.host))]
    assert not passes(alice, PEER, 400)


def test_an_expired_permission_counts_no_more_though_the_timer_is_late(alice, relay):
    alice.permit(PEER, now=100)
    assert passes(alice, PEER, 399.999)
    assert not passes(alice, PEER, 400)


def test_a_refresh_at_299_seconds_begins_anew(world, alice, relay):
    alice.permit(PEER, now=0)
    outputs = alice.permit(SAME_HOST, now=299)
    assert only(outputs, Grant) == [Grant(PermissionFlow(HERE, relay, PEER.host), 599)]
    assert world.sleep(598.9) == []
    assert passes(alice, PEER, 598.9)
    assert only(world.sleep(599), Revoke) == [Revoke(PermissionFlow(HERE, relay, PEER.host))]


def test_each_permission_has_its_own_time(world, alice, relay):
    alice.permit(PEER, OTHER_PEER, now=0)
    alice.permit(OTHER_PEER, now=200)
    assert only(world.sleep(300), Revoke) == [Revoke(PermissionFlow(HERE, relay, PEER.host))]
    assert passes(alice, OTHER_PEER, 499)
    assert only(world.sleep(500), Revoke) == [Revoke(PermissionFlow(HERE, relay, OTHER_PEER.host))]


def test_an_expired_permission_can_be_had_again(world, alice, relay):
    alice.permit(PEER, now=0)
    world.sleep(300)
    assert only(alice.permit(PEER, now=301), Grant) == [Grant(PermissionFlow(HERE, relay, PEER.host), 601)]


def test_neither_data_nor_indications_refresh_it(world, alice, relay):
    """Section 11.2: a Send indication never causes the server to refresh the permission."""
    alice.permit(PEER, now=0)
    for now in range(0, 300, 10):
        alice.send(PEER, b"x", now=now)
    world.sleep(300)
    assert not passes(alice, PEER, 300)


def test_permissions_of_one_allocation_are_nobody_elses(world, alice, bob, relay):
    """Section 9: totally unrelated to the permissions for a different allocation."""
    alice.permit(PEER)
    bob.allocate()
    assert not passes(bob, PEER, 1)
    other = world.client(udp(HERE.client.host, 40001))
    other.allocate()
    assert not passes(other, PEER, 1)


def test_a_grant_ends_no_later_than_its_allocation(world, alice):
    """A process that stalls must not go on relaying: what the plane holds ends with the allocation."""
    alice.allocate()
    outputs = alice.permit(PEER, now=500)
    outputs += alice.bind(0x4000, PEER, now=500)
    assert {grant.expires_at for grant in only(outputs, Grant)} == {600}


def test_a_refresh_grants_what_would_have_ended_with_the_allocation(alice):
    relay = accepted(alice.allocate()).get(XOR_RELAYED_ADDRESS)
    alice.permit(OTHER_PEER, now=200)
    alice.bind(0x4000, PEER, now=500)
    outputs = alice.refresh(600, now=550)
    # The permission until 500 needs nothing; the other and its channel were cut short at 600.
    assert set(only(outputs, Grant)) == {
        Grant(PermissionFlow(HERE, relay, PEER.host), 800),
        Grant(ChannelFlow(HERE, relay, 0x4000, PEER), 800),
    }


def test_a_refresh_that_shortens_cuts_the_grants(alice, new_world):
    world = new_world(limits=Limits(default_lifetime=60))
    client = world.client()
    relay = accepted(client.allocate((LIFETIME, 3600))).get(XOR_RELAYED_ADDRESS)
    client.permit(PEER, now=0)
    outputs = client.refresh(60, now=10)
    assert only(outputs, Grant) == [Grant(PermissionFlow(HERE, relay, PEER.host), 70)]


def test_each_half_of_a_dual_allocation_bounds_its_own_grants(alice):
    relays = accepted(alice.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6))).get_all(XOR_RELAYED_ADDRESS)
    alice.refresh(3600, (REQUESTED_ADDRESS_FAMILY, IPV6), now=0)
    assert only(alice.permit(PEER, PEER6, now=500), Grant) == [
        Grant(PermissionFlow(HERE, relays[0], PEER.host), 600),
        Grant(PermissionFlow(HERE, relays[1], PEER6.host), 800),
    ]


# -- refusals -----------------------------------------------------------------------------------------------


def test_without_allocation_it_is_437(alice):
    assert refused(alice.permit(PEER)) == 437


def test_by_another_user_it_is_441(world, relay):
    outputs = world.client(HERE, "bob").permit(PEER)
    assert refused(outputs) == 441
    assert not only(outputs, Grant)


def test_without_a_peer_it_is_400(alice, relay):
    assert refused(alice.permit()) == 400


@pytest.mark.parametrize(
    "value", [b"", b"\0\1", b"\0\3\0\0\0\0\0\0", b"\0\1" + bytes(16), b"\0\2" + bytes(6)]
)
def test_an_invalid_peer_is_400_and_nothing_is_installed(world, alice, relay, value):
    """Section 10.2: if any of these attributes are invalid."""
    invalid = Attribute.opaque(XOR_PEER_ADDRESS.type, "XOR-PEER-ADDRESS"), value
    for pairs in ([invalid], [(XOR_PEER_ADDRESS, PEER), invalid], [invalid, (XOR_PEER_ADDRESS, PEER)]):
        outputs = alice.ask(Method.CREATE_PERMISSION, *pairs, now=0)
        assert refused(outputs) == 400
        assert not only(outputs, Grant)
    assert not passes(alice, PEER, 1)


@pytest.mark.parametrize("peers", [[PEER6], [PEER, PEER6], [PEER6, PEER]])
def test_a_family_the_allocation_lacks_is_443_for_all(alice, relay, peers):
    outputs = alice.permit(*peers)
    assert refused(outputs) == 443
    assert not only(outputs, Grant)
    assert not passes(alice, PEER, 1)


def test_ipv4_peers_of_an_ipv6_allocation_are_443(alice):
    alice.allocate((REQUESTED_ADDRESS_FAMILY, IPV6))
    assert refused(alice.permit(PEER)) == 443
    accepted(alice.permit(PEER6))


def test_a_dual_allocation_takes_both(alice):
    relays = accepted(alice.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6))).get_all(XOR_RELAYED_ADDRESS)
    outputs = alice.permit(PEER, PEER6)
    assert [grant.flow.relay for grant in only(outputs, Grant)] == relays


@pytest.mark.parametrize("peers", [[PEER], [OTHER_PEER, PEER], [PEER, OTHER_PEER]])
def test_a_denied_peer_is_403_for_all(world, alice, relay, peers):
    world.peers.denied_hosts.add(PEER.host)
    outputs = alice.permit(*peers)
    assert refused(outputs) == 403
    assert PeerDenied(HERE, "alice", DenyRule.SPECIAL_PURPOSE, world.id_at(HERE)) in outputs
    assert not only(outputs, Grant)
    assert not passes(alice, OTHER_PEER, 1)
    assert sealed_with(reply(outputs).data, alice.key) == {"sha1"}


def test_policy_is_asked_again_at_each_refresh(world, alice, relay):
    alice.permit(PEER)
    world.peers.denied_hosts.add(PEER.host)
    assert refused(alice.permit(PEER, now=1)) == 403


def test_a_refusal_leaves_what_was_permitted_before(world, alice, relay):
    alice.permit(PEER, now=0)
    world.peers.denied_hosts.add(OTHER_PEER.host)
    assert refused(alice.permit(PEER, OTHER_PEER, now=100)) == 403
    assert passes(alice, PEER, 299)
    world.sleep(300)
    assert not passes(alice, PEER, 300)


def test_443_comes_before_403(world, alice, relay):
    """Section 10.2 in its order."""
    world.peers.denied_hosts.add(PEER.host)
    assert refused(alice.permit(PEER, PEER6)) == 443


def test_more_than_the_limit_is_508_for_all(new_world):
    world = new_world(limits=Limits(permissions_per_allocation=3))
    client = world.client()
    client.allocate()
    hosts = [peer(f"203.0.113.{number}", 1) for number in range(5)]
    assert refused(client.permit(*hosts[:4])) == 508
    accepted(client.permit(*hosts[:2]))
    assert refused(client.permit(*hosts[2:4])) == 508
    accepted(client.permit(hosts[2]))
    assert refused(client.permit(hosts[3])) == 508
    # What is there already can be refreshed, and room comes back as permissions expire.
    accepted(client.permit(*hosts[:3], now=100))
    world.sleep(400)
    accepted(client.permit(hosts[3], hosts[4], now=400))


def test_403_comes_before_508(new_world):
    world = new_world(limits=Limits(permissions_per_allocation=0))
    world.peers.denied_hosts.add(PEER.host)
    client = world.client()
    client.allocate()
    assert refused(client.permit(PEER)) == 403
    assert refused(client.permit(OTHER_PEER)) == 508


# -- relayed addresses as peers -----------------------------------------------------------------------------


def test_a_relayed_address_in_use_is_always_a_fair_peer(world, alice, bob, relay):
    """Two clients of one relay reach each other though the relay's own addresses are denied."""
    theirs = accepted(bob.allocate()).get(XOR_RELAYED_ADDRESS)
    world.peers.denied_hosts.add(relay.host)
    accepted(alice.permit(theirs))
    accepted(bob.permit(relay))
    assert passes(alice, theirs, 1)
    # Other ports of the machine stay closed, whatever the permission of its host.
    assert not passes(alice, theirs._replace(port=22), 1)
    assert refused(alice.permit(theirs._replace(port=22), now=1)) == 403


def test_a_relayed_address_that_is_gone_is_denied_again(world, alice, bob, relay):
    theirs = accepted(bob.allocate()).get(XOR_RELAYED_ADDRESS)
    world.peers.denied_hosts.add(relay.host)
    alice.permit(theirs)
    bob.refresh(0)
    assert not passes(alice, theirs, 1)
    assert refused(alice.permit(theirs, now=1)) == 403


def test_a_channel_to_a_relayed_address_that_is_gone_is_not_granted_again(world, alice, bob, relay):
    """Every grant passes policy. The port may be anybody's on this machine by now."""
    carol = world.client(udp("198.51.100.99", 1))
    gone = accepted(bob.allocate()).get(XOR_RELAYED_ADDRESS)
    live = accepted(carol.allocate()).get(XOR_RELAYED_ADDRESS)
    world.peers.denied_hosts.add(relay.host)
    alice.bind(0x4000, gone)
    bob.refresh(0, now=1)
    assert refused(alice.bind(0x4000, gone, now=2)) == 403
    outputs = alice.permit(live, now=2)
    accepted(outputs)
    assert only(outputs, Grant) == [Grant(PermissionFlow(HERE, relay, live.host), 302)]


def test_channels_of_the_host_are_granted_along(world, alice, relay):
    """A channel moves data only while its peer is permitted, so a new permission lets it go on."""
    alice.bind(0x4000, PEER, now=0)
    alice.bind(0x4001, OTHER_PEER, now=0)
    outputs = alice.permit(SAME_HOST, now=200)
    assert set(only(outputs, Grant)) == {
        Grant(PermissionFlow(HERE, relay, PEER.host), 500),
        Grant(ChannelFlow(HERE, relay, 0x4000, PEER), 500),
    }


def test_elsewhere_it_is_437(world, relay):
    assert refused(world.client(ELSEWHERE).permit(PEER)) == 437
