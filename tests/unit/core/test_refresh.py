"""Refresh (RFC 8656 section 8.2): prolong, shorten, delete, one family or all."""

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    Attribute,
)
from turnrelay.core.events import (
    AllocationEnded,
    AuthenticationFailed,
    AuthenticationFailure,
    EndReason,
)
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import CloseRelay, Grant, SendToPeer
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    PEER,
    PEER6,
    SHA256,
    accepted,
    only,
    refused,
    reply,
    sealed_with,
    tlvs,
)

IPV4, IPV6 = AddressFamily.IPV4, AddressFamily.IPV6
DUAL = ADDITIONAL_ADDRESS_FAMILY, IPV6


def of(family):
    return REQUESTED_ADDRESS_FAMILY, family


@pytest.fixture
def relay(alice):
    return accepted(alice.allocate()).get(XOR_RELAYED_ADDRESS)


@pytest.fixture
def dual(alice):
    """Both relayed addresses of a dual allocation."""
    return accepted(alice.allocate(DUAL)).get_all(XOR_RELAYED_ADDRESS)


def test_without_allocation_it_is_437(alice):
    assert refused(alice.refresh(600)) == 437
    assert refused(alice.refresh(0)) == 437
    assert refused(alice.refresh()) == 437


def test_of_another_users_allocation_it_is_441(world, relay):
    outputs = world.client(HERE, "bob").refresh(0)
    assert refused(outputs) == 441
    assert AuthenticationFailed(HERE, AuthenticationFailure.WRONG_USER, world.id_at(HERE)) in outputs
    assert world.plane.opened == {relay}


def test_another_user_of_the_same_account_is_another_user(world, relay):
    """Section 5: the same username as used to create the allocation."""
    world.accounts |= {"bob": "alice"}
    assert refused(world.client(HERE, "bob").refresh(600)) == 441


def test_the_same_user_may_change_how_he_signs(world, relay):
    accepted(world.client(algorithm=SHA256, anonymous=True).refresh(600, now=1))


def test_success_carries_the_lifetime_alone(alice, relay):
    data = reply(alice.refresh(1200)).data
    assert data[:2] == b"\x01\x04"
    assert [kind for kind, _ in tlvs(data)] == [0x000D, 0x0008]
    assert dict(tlvs(data))[0x000D] == (1200).to_bytes(4, "big")
    assert sealed_with(data, alice.key) == {"sha1"}


@pytest.mark.parametrize(
    ("wished", "given"),
    [
        (None, 600),
        (1, 600),
        (599, 600),
        (600, 600),
        (601, 601),
        (3600, 3600),
        (3601, 3600),
        (0xFFFFFFFF, 3600),
    ],
)
def test_lifetime_is_computed_as_for_an_allocate(world, alice, relay, wished, given):
    assert accepted(alice.refresh(wished, now=500)).get(LIFETIME) == given
    assert not only(world.sleep(500 + given - 0.001), CloseRelay)
    assert only(world.sleep(500 + given), CloseRelay) == [CloseRelay(relay)]


def test_a_refresh_may_shorten(world, alice):
    [relay] = accepted(alice.allocate((LIFETIME, 3600))).get_all(XOR_RELAYED_ADDRESS)
    assert accepted(alice.refresh(600, now=10)).get(LIFETIME) == 600
    assert world.sleep(609.9) == []
    assert CloseRelay(relay) in world.sleep(610)


def test_only_refreshes_prolong_an_allocation(world, alice, relay):
    """Section 6: sending data to a peer does not, nor do permissions and channels."""
    for now in range(0, 600, 100):
        alice.permit(PEER, now=now)
        alice.bind(0x4000, PEER, now=now)
        assert only(alice.send(PEER, b"x", now=now), SendToPeer)
    assert CloseRelay(relay) in world.sleep(600)


def test_a_refresh_prolongs_neither_permissions_nor_channels(world, alice, relay):
    alice.bind(0x4000, PEER, now=0)
    outputs = alice.refresh(3600, now=299)
    assert not only(outputs, Grant)
    world.sleep(300)
    assert not only(alice.send(PEER, b"x", now=300), SendToPeer)


def test_for_an_hour_and_more(world, alice, relay):
    for now in range(540, 20000, 540):
        world.sleep(now)
        alice.greet(now)
        accepted(alice.refresh(now=now))
    assert world.plane.opened == {relay}
    assert CloseRelay(relay) in world.sleep(30000)


# -- deletion -----------------------------------------------------------------------------------------------


def test_zero_deletes(world, alice, relay):
    outputs = alice.refresh(0, now=39)
    assert accepted(outputs).get(LIFETIME) == 0
    assert only(outputs, CloseRelay) == [CloseRelay(relay)]
    [ended] = only(outputs, AllocationEnded)
    assert (ended.path, ended.account, ended.reason, ended.age) == (HERE, "alice", EndReason.DELETED, 39)
    assert world.remnants() == {"replies": 2}
    assert refused(alice.refresh(600, now=40)) == 437
    assert refused(alice.permit(PEER, now=40)) == 437


def test_zero_is_zero_whatever_the_least_lifetime(new_world):
    world = new_world(limits=Limits(default_lifetime=60, max_lifetime=60))
    client = world.client()
    client.allocate()
    assert accepted(client.refresh(0)).get(LIFETIME) == 0
    assert not world.plane.opened


def test_deletion_takes_permissions_and_channels_with_it(world, alice, relay):
    alice.permit(PEER)
    alice.bind(0x4000, PEER)
    alice.refresh(0, now=1)
    alice.allocate(now=2)
    assert not only(alice.send(PEER, b"x", now=3), SendToPeer)
    # The number and the peer are free for other bindings in the new allocation.
    accepted(alice.bind(0x4001, PEER, now=3))


def test_deletion_over_a_stream(world, streaming):
    streaming.allocate()
    accepted(streaming.refresh(0))
    assert world.remnants() == {}


def test_only_the_own_allocation_is_deleted(world, alice, bob, relay):
    bob.allocate()
    bob.refresh(0)
    assert world.plane.opened == {relay}


# -- families -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [IPV6, 0, 3, 255])
@pytest.mark.parametrize("lifetime", [None, 0, 600])
def test_a_family_that_the_allocation_lacks_is_443(world, alice, relay, family, lifetime):
    assert refused(alice.refresh(lifetime, of(family))) == 443
    assert world.plane.opened == {relay}


def test_the_family_of_a_single_allocation_may_be_named(world, alice, relay):
    assert accepted(alice.refresh(1200, of(IPV4))).get(LIFETIME) == 1200
    outputs = alice.refresh(0, of(IPV4), now=1)
    assert accepted(outputs).get(LIFETIME) == 0
    assert CloseRelay(relay) in outputs
    assert world.remnants() == {"replies": 2}


def test_without_a_family_both_are_refreshed(world, alice, dual):
    alice.refresh(1200, now=100)
    assert not only(world.sleep(1299), CloseRelay)
    assert set(only(world.sleep(1300), CloseRelay)) == {CloseRelay(relay) for relay in dual}


@pytest.mark.parametrize("number", [0, 1])
def test_one_family_is_refreshed_and_the_other_expires(world, alice, dual, number):
    family = (IPV4, IPV6)[number]
    accepted(alice.refresh(1200, of(family), now=300))
    outputs = world.sleep(600)
    assert only(outputs, CloseRelay) == [CloseRelay(dual[1 - number])]
    assert not only(outputs, AllocationEnded)
    assert world.quotas.live() == 1
    outputs = world.sleep(1500)
    assert only(outputs, CloseRelay) == [CloseRelay(dual[number])]
    assert len(only(outputs, AllocationEnded)) == 1
    assert world.remnants() == {}


@pytest.mark.parametrize("number", [0, 1])
def test_one_family_is_deleted_and_the_other_lives(world, alice, dual, number):
    gone, left = (IPV4, PEER), (IPV6, PEER6)
    if number:
        gone, left = left, gone
    alice.permit(PEER, PEER6)
    outputs = alice.refresh(0, of(gone[0]), now=1)
    assert accepted(outputs).get(LIFETIME) == 0
    assert only(outputs, CloseRelay) == [CloseRelay(dual[number])]
    assert not only(outputs, AllocationEnded)
    assert world.quotas.live() == 1
    assert only(alice.send(left[1], b"x", now=2), SendToPeer)
    assert not only(alice.send(gone[1], b"x", now=2), SendToPeer)
    assert refused(alice.permit(gone[1], now=2)) == 443
    assert refused(alice.refresh(600, of(gone[0]), now=2)) == 443
    accepted(alice.refresh(600, of(left[0]), now=2))


@pytest.mark.parametrize("order", [(IPV4, IPV6), (IPV6, IPV4)])
def test_both_families_deleted_one_by_one(world, alice, dual, order):
    alice.refresh(0, of(order[0]))
    outputs = alice.refresh(0, of(order[1]))
    assert len(only(outputs, AllocationEnded)) == 1
    assert world.remnants() == {"replies": 3}


def test_both_families_deleted_at_once(world, alice, dual):
    outputs = alice.refresh(0)
    assert len(only(outputs, CloseRelay)) == 2
    assert len(only(outputs, AllocationEnded)) == 1
    assert world.remnants() == {"replies": 2}


def test_half_a_dual_allocation_is_refreshed_like_a_single_one(world, alice):
    world.plane.available = {IPV6}
    alice.allocate(DUAL)
    assert refused(alice.refresh(600, of(IPV4))) == 443
    accepted(alice.refresh(600, of(IPV6)))
    accepted(alice.refresh(600))


# -- malformed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"\0\0\x02", b"\0\0\0\0\0"])
def test_a_malformed_lifetime_is_400_and_changes_nothing(world, alice, relay, value):
    outputs = alice.refresh(None, (Attribute.opaque(LIFETIME.type, "LIFETIME"), value))
    assert refused(outputs) == 400
    assert world.plane.opened == {relay}


def test_elsewhere_it_is_437(world, relay):
    assert refused(world.client(ELSEWHERE).refresh(600)) == 437
