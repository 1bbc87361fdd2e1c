"""The passing of time: what ends when, in which order, and that nothing stays behind."""

import random

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
)
from turnrelay.core.deadlines import Deadlines
from turnrelay.core.events import AllocationEnded, EndReason
from turnrelay.core.outputs import ChannelFlow, CloseRelay, Grant, PermissionFlow, Reply, Revoke, SendToPeer
from unit.core.turn_client import (
    HERE,
    OTHER_PEER,
    PEER,
    PEER6,
    STREAM,
    accepted,
    only,
    peer,
    refused,
    tcp,
    udp,
)

IPV6 = AddressFamily.IPV6
DUAL = ADDITIONAL_ADDRESS_FAMILY, IPV6


def relays_of(outputs):
    return accepted(outputs).get_all(XOR_RELAYED_ADDRESS)


# -- deadlines ----------------------------------------------------------------------------------------------


def test_an_idle_server_waits_for_nothing(world):
    assert world.server.next_deadline() is None
    assert world.tick(1e9) == []


def test_the_next_deadline_is_the_earliest_of_all(world, alice, bob):
    alice.allocate((LIFETIME, 3600), now=0)
    assert world.server.next_deadline() == 3600
    alice.bind(0x4000, PEER, now=10)
    assert world.server.next_deadline() == 310
    bob.allocate((EVEN_PORT, True), now=20)
    assert world.server.next_deadline() == 50
    world.sleep(50)
    assert world.server.next_deadline() == 310
    world.sleep(310)
    assert world.server.next_deadline() == 610
    world.sleep(610)
    assert world.server.next_deadline() == 620  # bob's allocation
    world.sleep(620)
    assert world.server.next_deadline() == 910  # number and peer are free again
    world.sleep(910)
    assert world.server.next_deadline() == 3600
    world.sleep(3600)
    assert world.server.next_deadline() is None


def test_nothing_ends_before_its_time(world, alice):
    alice.allocate()
    alice.permit(PEER)
    assert world.tick(299.999) == []
    assert world.tick(0) == []


def test_an_allocation_ends_with_one_close_and_one_event(world, alice):
    [relay] = relays_of(alice.allocate(now=100))
    outputs = world.sleep(700)
    assert [type(output) for output in outputs] == [CloseRelay, AllocationEnded]
    assert outputs[0] == CloseRelay(relay)
    ended = outputs[1]
    assert (ended.path, ended.account, ended.reason, ended.age) == (HERE, "alice", EndReason.EXPIRED, 600)
    assert refused(alice.refresh(600, now=700)) == 437


def test_an_allocation_takes_its_permissions_and_channels_along(world, alice):
    """Sections 9 and 12. The flows end with the relay, so no Revoke needs to be sent for each."""
    [relay] = relays_of(alice.allocate(now=0))
    alice.bind(0x4000, PEER, now=599)
    assert [type(output) for output in world.sleep(600)] == [CloseRelay, AllocationEnded]
    assert world.sleep(10_000) == []
    assert relay not in world.plane.opened


def test_expiries_come_in_the_order_of_their_time(world, alice, bob):
    [relay] = relays_of(alice.allocate((LIFETIME, 3600), now=0))
    [other] = relays_of(bob.allocate((LIFETIME, 700), now=0))
    alice.bind(0x4000, PEER, now=0)
    alice.permit(PEER, now=200)
    alice.permit(OTHER_PEER, now=350)
    alice.permit(PEER, now=400)
    expected = [
        (600, [Revoke(ChannelFlow(HERE, relay, 0x4000, PEER))]),
        (650, [Revoke(PermissionFlow(HERE, relay, OTHER_PEER.host))]),
        (700, [Revoke(PermissionFlow(HERE, relay, PEER.host)), CloseRelay(other)]),
        (3600, [CloseRelay(relay)]),
    ]
    for at, outputs in expected:
        assert not only(world.sleep(at - 0.1), (CloseRelay, Revoke))
        found = [each for each in world.sleep(at) if isinstance(each, CloseRelay | Revoke)]
        assert sorted(found, key=str) == sorted(outputs, key=str)


def test_one_late_call_ends_all_that_is_overdue(world, alice, bob, streaming):
    relays = {*relays_of(alice.allocate()), *relays_of(bob.allocate((EVEN_PORT, True)))}
    relays |= {*relays_of(streaming.allocate(DUAL))}
    alice.permit(PEER)
    outputs = world.tick(100_000)
    assert relays < {output.relay for output in only(outputs, CloseRelay)}
    assert len(only(outputs, AllocationEnded)) == 3
    assert world.remnants() == {}


def test_a_late_call_revokes_what_is_overdue(world, alice):
    [relay] = relays_of(alice.allocate((LIFETIME, 3600)))
    alice.bind(0x4000, PEER, now=0)
    outputs = world.tick(700)
    assert set(only(outputs, Revoke)) == {
        Revoke(PermissionFlow(HERE, relay, PEER.host)),
        Revoke(ChannelFlow(HERE, relay, 0x4000, PEER)),
    }
    world.tick(1000)
    accepted(alice.bind(0x4000, OTHER_PEER, now=1000))


def test_data_that_comes_before_a_late_timer_does_not_outlive_the_allocation(alice):
    """Section 9: if an allocation expires, all its permissions expire with it.

    After a stall a loop hands over the packets that waited first, and then sees to its timers.
    """
    alice.allocate(now=0)
    alice.permit(PEER, now=500)
    assert only(alice.send(PEER, b"x", now=599), SendToPeer)
    assert not only(alice.send(PEER, b"x", now=601), SendToPeer)


def test_a_refresh_that_comes_before_a_late_timer_revives_nothing(alice):
    alice.allocate(now=0)
    assert refused(alice.refresh(600, now=601)) == 437


def test_a_5_tuple_is_free_when_its_time_has_come_though_the_timer_is_late(world, alice):
    alice.allocate(now=0)
    accepted(alice.allocate(now=601))
    assert len(world.plane.opened) == world.quotas.live() == 1


def test_a_channel_is_free_when_its_time_has_come_though_the_timer_is_late(alice):
    alice.allocate((LIFETIME, 3600), now=0)
    alice.bind(0x4000, PEER, now=0)
    accepted(alice.bind(0x4000, OTHER_PEER, now=900))


def test_a_refreshed_allocation_is_looked_at_and_left_alone(world, alice):
    alice.allocate(now=0)
    alice.refresh(600, now=500)
    assert world.sleep(1099) == []
    assert only(world.sleep(1100), CloseRelay)


def test_half_of_a_dual_allocation_expires_with_its_permissions(world, alice):
    first, second = relays_of(alice.allocate(DUAL))
    accepted(alice.refresh(1800, (REQUESTED_ADDRESS_FAMILY, IPV6), now=0))
    alice.bind(0x4000, PEER, now=550)
    alice.bind(0x4001, PEER6, now=550)
    outputs = world.sleep(600)
    assert outputs == [CloseRelay(first)]
    assert refused(alice.bind(0x4000, PEER, now=601)) == 443
    assert only(alice.send(PEER6, b"x", now=601), SendToPeer)
    # What was bound to the family that is gone is free.
    accepted(alice.bind(0x4000, peer("2001:db8::9", 1), now=601))
    assert only(world.sleep(1800), CloseRelay) == [CloseRelay(second)]


# -- leases: released once, in every way an allocation can end ----------------------------------------------


def end_by_expiry(world, client):
    world.sleep(600)


def end_by_deletion(world, client):
    client.refresh(0, now=1)


def end_by_disconnecting(world, client):
    world.disconnect(client.path, 1)


def end_by_shutting_down(world, client):
    world.shut_down(1)


def end_by_the_operator(world, client):
    world.end(world.state.allocations[client.path].allocation_id, 1)


def end_family_by_family(world, client):
    client.refresh(0, (REQUESTED_ADDRESS_FAMILY, AddressFamily.IPV4), now=1)
    assert world.quotas.live() == 1
    client.refresh(0, (REQUESTED_ADDRESS_FAMILY, IPV6), now=2)


def end_one_by_deletion_the_other_by_expiry(world, client):
    client.refresh(0, (REQUESTED_ADDRESS_FAMILY, IPV6), now=1)
    assert world.quotas.live() == 1
    world.sleep(600)


ENDS = [end_by_expiry, end_by_deletion, end_by_disconnecting, end_by_shutting_down, end_by_the_operator]
REASONS = [
    EndReason.EXPIRED,
    EndReason.DELETED,
    EndReason.DISCONNECTED,
    EndReason.SHUTDOWN,
    EndReason.OPERATOR,
]


@pytest.mark.parametrize("end", [*ENDS, end_family_by_family, end_one_by_deletion_the_other_by_expiry])
def test_the_lease_ends_with_the_allocation(world, streaming, end):
    streaming.allocate(DUAL)
    streaming.bind(0x4000, PEER)
    streaming.permit(PEER6)
    assert world.quotas.live() == 1
    end(world, streaming)
    assert [lease.releases for lease in world.quotas.leases] == [1]
    world.sleep(100_000)
    world.disconnect(STREAM, 100_000)
    world.shut_down(100_000)
    assert [lease.releases for lease in world.quotas.leases] == [1]
    assert world.remnants() == {}


@pytest.mark.parametrize(("end", "reason"), list(zip(ENDS, REASONS, strict=True)))
def test_the_reason_is_told(world, streaming, end, reason, monkeypatch):
    heard = []
    settle = world.settle
    monkeypatch.setattr(
        world, "settle", lambda outputs, now: (heard.extend(outputs), settle(outputs, now))[1]
    )
    streaming.allocate()
    end(world, streaming)
    assert [event.reason for event in only(heard, AllocationEnded)] == [reason]


def test_a_closed_connection_ends_its_own_allocation_alone(world, streaming):
    neighbour = world.client(tcp(STREAM.client.host, 42001))
    neighbour.allocate()
    [relay] = relays_of(streaming.allocate())
    assert only(world.disconnect(STREAM, 5), CloseRelay) == [CloseRelay(relay)]
    accepted(neighbour.refresh(600, now=6))


def test_a_closed_connection_without_allocation_is_nothing(world):
    assert world.disconnect(STREAM, 0) == []


def test_the_operator_ends_one_allocation_and_no_other(world, alice, bob):
    alice.allocate()
    bob.allocate()
    ended = world.state.allocations[alice.path].allocation_id
    world.end(ended, 1)
    assert list(world.state.allocations) == [bob.path]
    assert world.end(ended, 1) == world.end("nothing", 1) == []


def test_shutting_down_answers_nobody(world):
    clients = [world.client(udp("198.51.100.15", port)) for port in range(40000, 40010)]
    for client in clients:
        client.allocate()
        client.bind(0x4000, PEER)
    outputs = world.shut_down(1)
    assert not only(outputs, Reply)
    assert len(only(outputs, CloseRelay)) == len(only(outputs, AllocationEnded)) == 10
    assert world.server.next_deadline() is None
    assert world.shut_down(2) == []


# -- the heap -----------------------------------------------------------------------------------------------


class Item:
    wake_at = float("inf")


def drain(deadlines, now):
    items = []
    while (item := deadlines.due(now)) is not None:
        items.append(item)
    return items


def test_items_are_due_in_order_of_time_then_of_arrival():
    deadlines, items = Deadlines(), [Item() for _ in range(5)]
    for item, at in zip(items, (5, 3, 3, 9, 1), strict=True):
        deadlines.schedule(item, at)
    assert deadlines.next() == 1
    assert drain(deadlines, 5) == [items[4], items[1], items[2], items[0]]
    assert deadlines.next() == 9
    assert drain(deadlines, 8.999) == []


def test_an_earlier_time_replaces_a_later_one_and_not_the_other_way_round():
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, 10)
    deadlines.schedule(item, 20)
    assert deadlines.next() == 10
    deadlines.schedule(item, 5)
    assert drain(deadlines, 100) == [item]
    assert deadlines.next() is None


def test_a_cancelled_item_never_wakes_unless_scheduled_again():
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, 10)
    deadlines.cancel(item)
    deadlines.cancel(item)
    assert deadlines.next() is None
    deadlines.schedule(item, 10)
    assert drain(deadlines, 10) == [item]


def test_an_item_wakes_once_though_scheduled_for_the_same_time_again():
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, 10)
    deadlines.schedule(item, 5)
    assert drain(deadlines, 5) == [item]
    deadlines.schedule(item, 10)
    assert drain(deadlines, 100) == [item]


def test_churn_keeps_no_memory():
    """Clients that come and go leave entries behind that wake nobody; they are thrown out in time."""
    deadlines, sleeper = Deadlines(), Item()
    deadlines.schedule(sleeper, 1)
    for number in range(100_000):
        item = Item()
        deadlines.schedule(item, 1000 + number)
        deadlines.cancel(item)
    assert len(deadlines._heap) < 5_000
    assert drain(deadlines, 1) == [sleeper]
    assert deadlines.next() is None
    assert not deadlines._heap


def test_an_item_that_is_moved_again_and_again_keeps_no_memory():
    deadlines, item = Deadlines(), Item()
    for number in range(100_000):
        deadlines.schedule(item, 1_000_000 - number)
    assert len(deadlines._heap) < 5_000
    assert drain(deadlines, 1_000_000) == [item]
    assert not deadlines._heap


def test_what_is_left_after_churn_is_still_due_in_order():
    """Thousands come, most go, some are moved: the rest wake in the order of their time."""
    rng = random.Random(1)
    deadlines, items = Deadlines(), [Item() for _ in range(6000)]
    for item in items:
        deadlines.schedule(item, rng.randrange(1000, 100_000))
    gone = set(rng.sample(range(6000), 5000))
    for number in gone:
        deadlines.cancel(items[number])
    left = [item for number, item in enumerate(items) if number not in gone]
    for item in left[::2]:
        deadlines.schedule(item, item.wake_at - rng.randrange(1000))
    expected = sorted(item.wake_at for item in left)
    woken = []
    while (at := deadlines.next()) is not None:
        woken.append(at)
        assert deadlines.due(at - 0.5) is None
        assert deadlines.due(at) is not None
    assert woken == expected


def test_churn_of_allocations_keeps_no_memory(world, alice):
    alice.greet(now=0)
    for _ in range(3000):
        alice.allocate()
        alice.refresh(0)
    assert len(world.state.deadlines._heap) < 3000
    assert world.remnants().keys() == {"replies"}


def test_grants_are_never_in_the_past(world, alice):
    alice.allocate((LIFETIME, 3600))
    for now in range(0, 2400, 150):
        world.sleep(now)
        for outputs in (alice.permit(PEER, now=now), alice.permit(OTHER_PEER, now=now)):
            assert all(grant.expires_at > now for grant in only(outputs, Grant))
        if now in (0, 1500):
            accepted(alice.bind(0x4000, PEER, now=now))
