"""A server that drains: nothing new begins, and everything that lives goes on."""

from stunwire import EVEN_PORT, LIFETIME, RESERVATION_TOKEN
from turnrelay.core.events import AllocationRefused, RefusalReason
from turnrelay.core.outputs import OpenRelay
from unit.core.turn_client import PEER, accepted, only, refused, udp


def test_no_allocation_is_made_and_the_reason_is_told(world, alice):
    world.server.drain()
    outputs = alice.allocate()
    assert refused(outputs) == 508
    assert only(outputs, AllocationRefused)[0].reason is RefusalReason.DRAINING
    assert not only(outputs, OpenRelay)
    assert not world.quotas.live()


def test_what_lives_is_refreshed_and_may_reach_new_peers(world, alice):
    alice.allocate()
    world.server.drain()
    assert accepted(alice.refresh(600, now=500)).get(LIFETIME) == 600
    assert accepted(alice.permit(PEER, now=501))
    assert accepted(alice.bind(0x4000, PEER, now=502))


def test_a_port_that_was_promised_is_given(world, alice):
    token = accepted(alice.allocate((EVEN_PORT, True))).get(RESERVATION_TOKEN)
    world.server.drain()
    assert accepted(world.client(udp("198.51.100.15", 40001)).allocate((RESERVATION_TOKEN, token), now=10))


def test_it_is_idle_when_neither_allocation_nor_reservation_is_left(world, alice):
    assert world.server.is_idle
    accepted(alice.allocate((EVEN_PORT, True)))
    alice.refresh(0, now=1)
    assert not world.server.is_idle
    world.sleep(until=40)
    assert world.server.is_idle
