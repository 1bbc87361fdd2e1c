"""Every way in which an Allocate is refused has its reason, told once."""

import pytest
from stunwire import (
    EVEN_PORT,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    AddressFamily,
    Attribute,
    Method,
)
from turnrelay.core.events import AllocationEnded, AllocationRefused, EndReason, RefusalReason
from turnrelay.core.protocols import Limit
from unit.core.conftest import World
from unit.core.turn_client import HERE, only

IPV4 = frozenset({AddressFamily.IPV4})


def quota(limit):
    def prepare(world):
        world.quotas.limit = limit

    return prepare


def nothing(world):
    pass


@pytest.mark.parametrize(
    ("prepare", "pairs", "reason"),
    [
        (quota(Limit.ALLOCATIONS_PER_USER), [], RefusalReason.ALLOCATIONS_PER_USER),
        (quota(Limit.ALLOCATIONS_PER_PREFIX), [], RefusalReason.ALLOCATIONS_PER_PREFIX),
        (quota(Limit.ALLOCATIONS_TOTAL), [], RefusalReason.ALLOCATIONS_TOTAL),
        (lambda world: world.plane.available.clear(), [], RefusalReason.RELAY_PORTS),
        (lambda world: world.client().allocate(), [], RefusalReason.ALLOCATION_EXISTS),
        (lambda world: world.peers.denied_clients.add(HERE.client.host), [], RefusalReason.CLIENT_ADDRESS),
        (nothing, [(RESERVATION_TOKEN, bytes(8))], RefusalReason.RESERVATION_TOKEN),
        (nothing, [(REQUESTED_ADDRESS_FAMILY, AddressFamily.IPV6)], RefusalReason.ADDRESS_FAMILY),
        (nothing, [(Attribute.opaque(0x7F00, "?"), b"")], RefusalReason.UNKNOWN_ATTRIBUTE),
        (nothing, [(RESERVATION_TOKEN, bytes(8)), (EVEN_PORT, True)], RefusalReason.BAD_REQUEST),
    ],
)
def test_a_refusal_is_told_once_with_its_reason(prepare, pairs, reason):
    world = World(families=IPV4)
    prepare(world)
    [refused] = only(world.client().allocate(*pairs), AllocationRefused)
    assert (refused.path, refused.account, refused.reason) == (HERE, "alice", reason)


def test_another_transport_to_the_peer():
    world = World()
    [refused] = only(world.client().ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6), now=0), AllocationRefused)
    assert refused.reason is RefusalReason.RELAYED_TRANSPORT


def test_every_quota_has_a_reason_of_its_name():
    assert all(RefusalReason(limit.value) for limit in Limit)


def test_an_end_is_told_once_with_its_reason_and_the_id():
    world = World()
    client = world.client()
    client.allocate()
    allocation_id = world.id_at(HERE)
    [ended] = only(client.refresh(0), AllocationEnded)
    assert (ended.allocation_id, ended.reason) == (allocation_id, EndReason.DELETED)
