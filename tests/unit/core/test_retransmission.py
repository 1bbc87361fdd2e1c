"""Retransmissions (RFC 8489 section 6.3.1, RFC 8656 section 5): the same request again changes nothing."""

import pytest
from stunwire import (
    CHANNEL_NUMBER,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    XOR_PEER_ADDRESS,
    Method,
)
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import CloseRelay, OpenRelay
from turnrelay.core.protocols import Limit
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    PEER,
    STREAM,
    UDP,
    accepted,
    only,
    refused,
    reply,
    tcp,
    udp,
)

TRANSPORT = REQUESTED_TRANSPORT, UDP


def test_an_allocate_gets_the_same_bytes_again(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, TRANSPORT)
    first = reply(world.deliver(request, HERE, 0))
    for now in (0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 39.5):
        assert world.deliver(request, HERE, now) == [first]
    assert len(world.plane.opened) == world.quotas.live() == 1


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([], 400),
        ([(REQUESTED_TRANSPORT, 6)], 442),
        ([TRANSPORT, (REQUESTED_ADDRESS_FAMILY, 3)], 440),
    ],
)
def test_a_refused_allocate_gets_the_same_bytes_again(world, alice, pairs, code):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, *pairs)
    first = world.deliver(request, HERE, 0)
    assert refused(first) == code
    assert world.deliver(request, HERE, 39) == [reply(first)]


def test_a_refusal_stands_though_there_is_room_now(world, alice):
    """Client and server must agree on the outcome, whichever answer arrives."""
    alice.greet(now=0)
    for refuse, code in (("quota", 486), ("capacity", 508)):
        world.quotas.limit = Limit.ALLOCATIONS_PER_USER if refuse == "quota" else None
        world.plane.available = set()
        request = alice.form(Method.ALLOCATE, TRANSPORT)
        first = world.deliver(request, HERE, 0)
        assert refused(first) == code
        world.quotas.limit = None
        world.plane.available = {1, 2}
        assert world.deliver(request, HERE, 10) == [reply(first)]
        assert not world.plane.opened


def test_the_transaction_id_with_other_bytes_is_another_request(world, alice):
    alice.greet(now=0)
    first = alice.form(Method.ALLOCATE, TRANSPORT, transaction_id=b"twelve bytes")
    other = alice.form(Method.ALLOCATE, TRANSPORT, (SOFTWARE, "other"), transaction_id=b"twelve bytes")
    accepted(world.deliver(first, HERE, 0))
    assert refused(world.deliver(other, HERE, 1)) == 437


def test_a_forgery_under_an_answered_transaction_is_challenged(world, alice):
    alice.greet(now=0)
    accepted(alice.allocate(transaction_id=b"twelve bytes"))
    alice.password = "guessed"
    assert refused(alice.allocate(transaction_id=b"twelve bytes", now=1)) == 401


def test_the_same_bytes_from_elsewhere_are_another_request(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, TRANSPORT)
    accepted(world.deliver(request, HERE, 0))
    for path in (ELSEWHERE, udp(HERE.client.host, 40001)):
        assert refused(world.deliver(request, path, 0)) == 438
    # Over TCP from the same address the nonce holds: another 5-tuple, another allocation.
    accepted(world.deliver(request, tcp(*HERE.client), 0))
    assert len(world.plane.opened) == 2


def test_an_answer_is_remembered_for_40_seconds(world, alice):
    """RFC 8489 section 6.3.1: the responses of the last 40 seconds."""
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, TRANSPORT)
    first = reply(world.deliver(request, HERE, 100))
    assert world.deliver(request, HERE, 139.9) == [first]
    assert refused(world.deliver(request, HERE, 200)) == 437


def test_a_stream_retransmits_nothing(world, streaming):
    """RFC 8489 section 6.2.2: over TCP reliability is the transport's, so nothing needs remembering."""
    streaming.greet(now=0)
    request = streaming.form(Method.ALLOCATE, TRANSPORT)
    accepted(world.deliver(request, STREAM, 0))
    assert refused(world.deliver(request, STREAM, 1)) == 437
    assert len(world.state.replies) == 0


def test_the_deletion_of_an_allocation_is_answered_again(world, alice):
    """The allocation is gone when the retransmission comes, yet the answer is success."""
    alice.allocate()
    request = alice.form(Method.REFRESH, (LIFETIME, 0))
    outputs = world.deliver(request, HERE, 10)
    assert accepted(outputs).get(LIFETIME) == 0
    assert world.deliver(request, HERE, 11) == [reply(outputs)]
    assert world.deliver(request, HERE, 49) == [reply(outputs)]
    assert refused(world.deliver(request, HERE, 100)) == 437


def test_a_late_deletion_does_not_end_the_allocation_that_followed(world, alice):
    alice.allocate()
    request = alice.form(Method.REFRESH, (LIFETIME, 0))
    world.deliver(request, HERE, 1)
    accepted(alice.allocate(now=2))
    outputs = world.deliver(request, HERE, 3)
    assert not only(outputs, CloseRelay)
    assert accepted(outputs).get(LIFETIME) == 0
    accepted(alice.refresh(600, now=4))


def test_a_late_allocate_does_not_revive_what_was_deleted(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, TRANSPORT)
    first = reply(world.deliver(request, HERE, 0))
    alice.refresh(0, now=1)
    outputs = world.deliver(request, HERE, 2)
    assert outputs == [first]
    assert not world.plane.opened


def test_requests_that_can_be_repeated_are_carried_out_again(world, alice):
    """RFC 8656 sections 8.2, 10.2 and 12.2 have them idempotent; the answers are the same bytes."""
    alice.allocate()
    for method, *pairs in (
        (Method.REFRESH, (LIFETIME, 1200)),
        (Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, PEER)),
        (Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, PEER)),
    ):
        request = alice.form(method, *pairs)
        outputs = world.deliver(request, HERE, 1)
        accepted(outputs)
        assert reply(world.deliver(request, HERE, 2)) == reply(outputs)


def test_a_retransmission_opens_and_reserves_nothing(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, TRANSPORT, (EVEN_PORT, True))
    world.deliver(request, HERE, 0)
    assert not only(world.deliver(request, HERE, 1), OpenRelay)
    assert len(world.plane.opened) == 2


def test_memory_is_bounded(new_world):
    """Under pressure the oldest answers go, and a retransmission then meets 437."""
    world = new_world(limits=Limits(remembered_replies=10))
    requests = []
    for port in range(40000, 40015):
        client = world.client(udp("198.51.100.15", port))
        client.greet(now=0)
        requests.append((client.path, client.form(Method.ALLOCATE, TRANSPORT)))
        accepted(world.deliver(requests[-1][1], client.path, 0))
    assert len(world.state.replies) == 10
    (oldest, first), *_, (newest, last) = requests
    assert refused(world.deliver(first, oldest, 1)) == 437
    accepted(world.deliver(last, newest, 1))
    assert len(world.state.replies) == 10


def test_old_answers_are_forgotten(world, alice):
    alice.allocate()
    alice.refresh(0)
    assert len(world.state.replies) == 2
    world.tick(39)
    assert len(world.state.replies) == 2
    world.tick(40)
    assert len(world.state.replies) == 0


def test_old_answers_make_room_though_no_timer_runs(world, alice):
    """A server that refuses everything has nothing to wait for; what it remembers does not grow."""
    world.quotas.limit = Limit.ALLOCATIONS_TOTAL
    for now in range(200):
        assert refused(alice.allocate(now=now)) == 508
        assert len(world.state.replies) <= 41
    assert world.server.next_deadline() is None
