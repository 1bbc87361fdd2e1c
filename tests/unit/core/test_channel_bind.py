"""ChannelBind (RFC 8656 section 12): numbers for peers, ten minutes at a time and five more apart."""

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    CHANNEL_NUMBER,
    LIFETIME,
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
)

IPV6 = AddressFamily.IPV6
NUMBER, OTHER_NUMBER = 0x4000, 0x4001


@pytest.fixture
def relay(alice):
    return accepted(alice.allocate((LIFETIME, 3600))).get(XOR_RELAYED_ADDRESS)


@pytest.fixture
def permission(relay):
    return PermissionFlow(HERE, relay, PEER.host)


@pytest.fixture
def channel(relay):
    return ChannelFlow(HERE, relay, NUMBER, PEER)


def keep_permission(alice, until, since=0):
    """Refreshes the permission of PEER as a client does, so that channels are seen on their own."""
    for now in range(since, until, 240):
        accepted(alice.permit(PEER, now=now))


# -- success ------------------------------------------------------------------------------------------------


def test_a_binding_comes_with_its_permission(alice, permission, channel):
    outputs = alice.bind(NUMBER, PEER, now=100)
    accepted(outputs)
    # The channel lives 600 seconds, and moves data while the permission (300 seconds) lives.
    assert only(outputs, Grant) == [Grant(permission, 400), Grant(channel, 400)]


def test_success_carries_nothing_but_its_seal(alice, relay):
    """Section 12.2: there are no required attributes in a successful ChannelBind response."""
    data = reply(alice.bind(NUMBER, PEER)).data
    assert data[:2] == b"\x01\x09"
    assert [kind for kind, _ in tlvs(data)] == [0x0008]
    assert sealed_with(data, alice.key) == {"sha1"}


def test_the_permission_is_good_for_the_whole_host(alice, relay):
    alice.bind(NUMBER, PEER)
    assert only(alice.send(SAME_HOST, b"x", now=1), SendToPeer)
    assert not only(alice.send(OTHER_PEER, b"x", now=1), SendToPeer)


def test_several_channels_to_one_host(alice, relay):
    accepted(alice.bind(NUMBER, PEER))
    accepted(alice.bind(OTHER_NUMBER, SAME_HOST))
    assert len(only(alice.permit(PEER, now=1), Grant)) == 3


def test_channels_of_another_allocation_do_not_matter(world, alice, bob, relay):
    """Section 12: bindings are specific to an allocation."""
    bob.allocate()
    accepted(alice.bind(NUMBER, PEER))
    accepted(bob.bind(NUMBER, OTHER_PEER))
    accepted(bob.bind(OTHER_NUMBER, PEER))


def test_both_families_of_a_dual_allocation(alice):
    relays = accepted(alice.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6))).get_all(XOR_RELAYED_ADDRESS)
    flows = [
        grant.flow
        for number, address in ((NUMBER, PEER), (OTHER_NUMBER, PEER6))
        for grant in only(alice.bind(number, address), Grant)
    ]
    channels = [flow for flow in flows if isinstance(flow, ChannelFlow)]
    assert channels == [
        ChannelFlow(HERE, relays[0], NUMBER, PEER),
        ChannelFlow(HERE, relays[1], OTHER_NUMBER, PEER6),
    ]
    assert refused(alice.bind(NUMBER, PEER6)) == 400


# -- 400 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pairs", [[], [(CHANNEL_NUMBER, NUMBER)], [(XOR_PEER_ADDRESS, PEER)]], ids=["both", "peer", "number"]
)
def test_what_is_missing_is_400(alice, relay, pairs):
    assert refused(alice.ask(Method.CHANNEL_BIND, *pairs, now=0)) == 400


@pytest.mark.parametrize("number", [0x0000, 0x0001, 0x3FFF, 0x8000, 0xC000, 0xFFFF])
def test_a_number_outside_the_range_is_400(alice, relay, number):
    outputs = alice.bind(number, PEER)
    assert refused(outputs) == 400
    assert not only(outputs, Grant)
    assert not only(alice.send(PEER, b"x"), SendToPeer)


@pytest.mark.parametrize("number", [0x4000, 0x4ABC, 0x4FFF])
def test_a_number_of_the_range_is_accepted(alice, relay, number):
    accepted(alice.bind(number, PEER))


@pytest.mark.parametrize("number", [0x5000, 0x6000, 0x7FFF])
def test_a_number_of_the_wider_range_of_rfc_5766_is_accepted(alice, relay, number):
    """RFC 5766 section 11; docs/adr/0001 says why."""
    accepted(alice.bind(number, PEER))


def test_reserved_bits_of_the_number_are_ignored(alice, relay):
    """Section 18.1: RFFU MUST be ignored on reception."""
    odd = Attribute.opaque(CHANNEL_NUMBER.type, "CHANNEL-NUMBER"), b"\x40\x00\xff\xff"
    accepted(alice.ask(Method.CHANNEL_BIND, odd, (XOR_PEER_ADDRESS, PEER), now=0))


def test_a_bound_number_for_another_peer_is_400(alice, relay, channel):
    alice.bind(NUMBER, PEER)
    for other in (OTHER_PEER, SAME_HOST):
        outputs = alice.bind(NUMBER, other, now=1)
        assert refused(outputs) == 400
        assert not only(outputs, Grant)
    assert Grant(channel, 302) in alice.bind(NUMBER, PEER, now=2)


def test_a_bound_peer_for_another_number_is_400(alice, relay):
    alice.bind(NUMBER, PEER)
    outputs = alice.bind(OTHER_NUMBER, PEER, now=1)
    assert refused(outputs) == 400
    assert not only(outputs, Grant)


def test_numbers_cannot_be_swapped(alice, relay):
    alice.bind(NUMBER, PEER)
    alice.bind(OTHER_NUMBER, OTHER_PEER)
    assert refused(alice.bind(NUMBER, OTHER_PEER)) == 400
    assert refused(alice.bind(OTHER_NUMBER, PEER)) == 400


# -- other refusals -----------------------------------------------------------------------------------------


def test_without_allocation_it_is_437(alice):
    assert refused(alice.bind(NUMBER, PEER)) == 437


def test_by_another_user_it_is_441(world, relay):
    assert refused(world.client(HERE, "bob").bind(NUMBER, PEER)) == 441


def test_a_family_the_allocation_lacks_is_443(alice, relay):
    outputs = alice.bind(NUMBER, PEER6)
    assert refused(outputs) == 443
    accepted(alice.bind(NUMBER, PEER, now=1))


def test_a_denied_peer_is_403_and_nothing_is_bound(world, alice, relay):
    world.peers.denied.add(PEER)
    outputs = alice.bind(NUMBER, PEER)
    assert refused(outputs) == 403
    assert PeerDenied(HERE, "alice", DenyRule.OWN_PORT, world.id_at(HERE)) in outputs
    assert not only(outputs, Grant)
    accepted(alice.bind(NUMBER, OTHER_PEER))


def test_policy_is_asked_again_at_each_rebinding(world, alice, relay):
    alice.bind(NUMBER, PEER)
    world.peers.denied_hosts.add(PEER.host)
    outputs = alice.bind(NUMBER, PEER, now=1)
    assert refused(outputs) == 403
    assert not only(outputs, Grant)


def test_more_channels_than_the_limit_is_508(new_world):
    world = new_world(limits=Limits(channels_per_allocation=2))
    client = world.client()
    client.allocate((LIFETIME, 3600))
    accepted(client.bind(NUMBER, PEER))
    accepted(client.bind(OTHER_NUMBER, OTHER_PEER))
    outputs = client.bind(0x4002, SAME_HOST)
    assert refused(outputs) == 508
    assert not only(outputs, Grant)
    # Rebinding needs no room, and room comes back when numbers are free again.
    accepted(client.bind(NUMBER, PEER, now=500))
    world.sleep(900)
    accepted(client.bind(0x4002, SAME_HOST, now=900))


def test_more_permissions_than_the_limit_is_508_and_nothing_is_bound(new_world):
    world = new_world(limits=Limits(permissions_per_allocation=1))
    client = world.client()
    client.allocate()
    accepted(client.permit(OTHER_PEER))
    assert refused(client.bind(NUMBER, PEER)) == 508
    accepted(client.bind(NUMBER, OTHER_PEER))


@pytest.mark.parametrize(("address", "code"), [(PEER6, 443), (PEER, 403)])
def test_443_and_403_come_before_508(new_world, address, code):
    """Section 12.2: 508 is for a request that is valid, but cannot be fulfilled."""
    world = new_world(limits=Limits(channels_per_allocation=0))
    world.peers.denied_hosts.add(PEER.host)
    client = world.client()
    client.allocate()
    assert refused(client.bind(NUMBER, address)) == code


def test_400_comes_before_443_and_403(world, alice, relay):
    world.peers.denied_hosts.add(OTHER_PEER.host)
    alice.bind(NUMBER, PEER)
    assert refused(alice.bind(NUMBER, PEER6)) == 400
    assert refused(alice.bind(NUMBER, OTHER_PEER)) == 400


# -- time ---------------------------------------------------------------------------------------------------


def test_a_binding_lasts_600_seconds(world, alice, relay, channel):
    alice.bind(NUMBER, PEER, now=0)
    keep_permission(alice, 600)
    assert not only(world.sleep(599.9), Revoke)
    assert only(world.sleep(600), Revoke) == [Revoke(channel)]


def test_the_flow_is_never_granted_beyond_the_binding(alice, permission, channel):
    alice.bind(NUMBER, PEER, now=0)
    keep_permission(alice, 480)
    assert only(alice.permit(PEER, now=550), Grant) == [Grant(permission, 850), Grant(channel, 600)]


def test_rebinding_the_same_peer_resets_both_times(world, alice, permission, channel):
    alice.bind(NUMBER, PEER, now=0)
    for now in (250, 500, 750, 1000):
        outputs = alice.bind(NUMBER, PEER, now=now)
        accepted(outputs)
        assert only(outputs, Grant) == [Grant(permission, now + 300), Grant(channel, now + 300)]
        assert not only(world.sleep(now), Revoke)
    keep_permission(alice, 1600, since=1000)
    assert only(world.sleep(1599), Revoke) == []
    assert only(world.sleep(1600), Revoke) == [Revoke(channel)]


@pytest.mark.parametrize("now", [599, 600, 600.5, 750, 899, 899.9])
def test_number_and_peer_are_kept_apart_for_five_more_minutes(world, alice, relay, now):
    alice.bind(NUMBER, PEER, now=0)
    world.sleep(now)
    assert refused(alice.bind(NUMBER, OTHER_PEER, now=now)) == 400
    assert refused(alice.bind(OTHER_NUMBER, PEER, now=now)) == 400


@pytest.mark.parametrize("now", [600, 750, 899.9])
def test_meanwhile_the_same_pair_may_be_bound_again(world, alice, permission, channel, now):
    alice.bind(NUMBER, PEER, now=0)
    world.sleep(now)
    outputs = alice.bind(NUMBER, PEER, now=now)
    accepted(outputs)
    assert only(outputs, Grant) == [Grant(permission, now + 300), Grant(channel, now + 300)]
    # The five minutes begin anew, after the new ten.
    world.sleep(now + 899)
    assert refused(alice.bind(NUMBER, OTHER_PEER, now=now + 899)) == 400
    world.sleep(now + 900)
    accepted(alice.bind(NUMBER, OTHER_PEER, now=now + 900))


@pytest.mark.parametrize("now", [900, 900.1, 2000])
def test_afterwards_both_are_free(world, alice, relay, now):
    alice.bind(NUMBER, PEER, now=0)
    world.sleep(now)
    accepted(alice.bind(NUMBER, OTHER_PEER, now=now))
    accepted(alice.bind(OTHER_NUMBER, PEER, now=now))


def test_the_pair_can_be_bound_again_long_after(world, alice, permission, channel):
    alice.bind(NUMBER, PEER, now=0)
    world.sleep(1000)
    assert only(alice.bind(NUMBER, PEER, now=1000), Grant) == [Grant(permission, 1300), Grant(channel, 1300)]


def test_an_unbound_channel_is_not_granted_along_with_its_host(world, alice, permission):
    alice.bind(NUMBER, PEER, now=0)
    world.sleep(700)
    assert only(alice.permit(PEER, now=700), Grant) == [Grant(permission, 1000)]


def test_a_permission_that_ends_takes_the_flow_of_its_channel(world, alice, permission, channel):
    alice.bind(NUMBER, PEER, now=0)
    assert world.sleep(299.9) == []
    assert only(world.sleep(300), Revoke) == [Revoke(permission), Revoke(channel)]


@pytest.mark.parametrize("now", [301, 450, 599])
def test_a_new_permission_brings_the_flow_back(world, alice, permission, channel, now):
    """The binding lasts ten minutes, with its permission or without."""
    alice.bind(NUMBER, PEER, now=0)
    world.sleep(now)
    granted = only(alice.permit(SAME_HOST, now=now), Grant)
    assert granted == [Grant(permission, now + 300), Grant(channel, min(600, now + 300))]


def test_a_permission_that_was_there_is_refreshed_by_the_binding(world, alice, permission, channel):
    alice.permit(PEER, now=0)
    alice.bind(NUMBER, PEER, now=200)
    assert not only(world.sleep(499), Revoke)
    assert set(only(world.sleep(500), Revoke)) == {Revoke(permission), Revoke(channel)}


def test_bindings_end_with_their_allocation(world, alice, relay):
    """Section 12: if an allocation expires, all its channel bindings expire with it."""
    alice.bind(NUMBER, PEER, now=0)
    alice.refresh(0, now=10)
    alice.allocate(now=11)
    accepted(alice.bind(NUMBER, OTHER_PEER, now=12))


def test_many_bindings_expire_each_in_its_time(world, alice, relay):
    peers = [peer("203.0.113.9", 1000 + number) for number in range(50)]
    for number, address in enumerate(peers):
        accepted(alice.bind(NUMBER + number, address, now=number))
    outputs = world.sleep(349)
    # All hang on one permission, which was refreshed with each.
    assert {type(output) for output in outputs} == {Revoke}
    assert len(outputs) == 51
    for number, address in enumerate(peers):
        world.sleep(900 + number)
        accepted(alice.bind(0x4800 + number, address, now=900 + number))
