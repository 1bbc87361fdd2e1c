"""While keys are fetched that are not in memory: who waits, who pays for it, and who is not kept waiting."""

import pytest
from stunwire import REQUESTED_TRANSPORT, Method
from turnrelay.core.events import Throttle, Throttled
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import FetchKey, LookUpKey
from unit.core.conftest import World
from unit.core.turn_client import (
    HERE,
    UDP,
    Client,
    accepted,
    only,
    refused,
    reply,
    sealed_with,
    silent,
    tlvs,
    udp,
)


def test_a_lookup_is_one_question_however_often_it_is_retransmitted(world, alice):
    alice.greet(now=0)
    world.hold_keys = True
    request = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP))
    [question] = world.deliver(request, HERE, 0)
    assert world.deliver(request, HERE, 0.5) == []
    outputs = world.look_up(question, 1)
    accepted(outputs)
    assert world.deliver(request, HERE, 1.5)[0] == reply(outputs)


def test_lookups_may_be_answered_in_any_order(world, alice, bob):
    alice.greet(now=0)
    bob.greet(now=0)
    world.hold_keys = True
    questions = [only(client.allocate(), FetchKey)[0] for client in (alice, bob)]
    for question, client in reversed(list(zip(questions, (alice, bob), strict=True))):
        outputs = world.look_up(question, 1)
        assert reply(outputs).path == client.path
        assert sealed_with(reply(outputs).data, client.key) == {"sha1"}


def test_a_lookup_for_a_closed_connection_is_answered_to_nobody(world, streaming):
    streaming.greet(now=0)
    world.hold_keys = True
    [question] = streaming.allocate()
    assert world.disconnect(streaming.path, 0.5) == []
    assert world.look_up(question, 1) == []
    assert world.remnants() == {}


def test_a_directory_that_cannot_be_asked_is_500(world, alice):
    """Nothing is said about the user, and nothing is kept: the client may try again."""
    alice.greet(now=0)
    world.hold_keys = True
    request = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP))
    [question] = world.deliver(request, HERE, 0)
    outputs = world.server.key_unavailable(question.ticket, 1)
    assert refused(outputs) == 500
    assert {kind for kind, _ in tlvs(reply(outputs).data)} == {0x0009}
    assert world.remnants() == {}
    [question] = world.deliver(request, HERE, 2)
    accepted(world.look_up(question, 3))


def test_a_directory_that_cannot_be_asked_for_a_closed_connection(world, streaming):
    streaming.greet(now=0)
    world.hold_keys = True
    [question] = streaming.allocate()
    world.disconnect(streaming.path, 0.5)
    assert world.server.key_unavailable(question.ticket, 1) == []
    assert world.remnants() == {}


# -- who pays ---------------------------------------------------------------------------------------------


def strangers(world: World, number: int) -> list[Client]:
    """Clients who have been challenged, with names that nobody has."""
    clients = [world.client(udp("198.51.100.15", 50000 + each), f"user{each}") for each in range(number)]
    for client in clients:
        client.greet(now=0)
    return clients


def waiting(outputs) -> FetchKey | None:
    """What a request waits for, None if it was dropped."""
    assert outputs in ([], only(outputs, FetchKey), only(outputs, Throttled))
    return next(iter(only(outputs, FetchKey)), None)


def test_a_prefix_that_has_used_up_its_answers_costs_the_directory_nothing(world):
    clients = strangers(world, 5)
    world.hold_keys, world.rate_limit.left = True, 2
    asked = [client.allocate() for client in clients]
    assert [len(only(outputs, FetchKey)) for outputs in asked] == [1, 1, 0, 0, 0]
    assert asked[2:] == [[Throttled(client.path, Throttle.UNAUTHENTICATED)] for client in clients[2:]]
    assert len(world.state.pending_requests) == 2


def test_what_was_paid_to_wait_pays_for_the_answer(world):
    [client] = strangers(world, 1)
    world.hold_keys, world.rate_limit.left = True, 1
    [question] = client.allocate()
    assert refused(world.look_up(question, 1)) == 401
    assert world.rate_limit.left == 0


@pytest.mark.parametrize("left", [0, 1])
def test_500_is_paid_from_the_rate_of_its_source(world, alice, left):
    alice.greet(now=0)
    world.rate_limit.left = left
    [question] = world.server.receive(alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP)), HERE, 0)
    assert isinstance(question, LookUpKey)
    outputs = world.server.key_unavailable(question.ticket, 0)
    assert silent(outputs) if not left else refused(outputs) == 500
    assert world.remnants() == {}


def test_500_to_who_has_waited_is_paid_already(world, alice):
    alice.greet(now=0)
    world.hold_keys, world.rate_limit.left = True, 1
    [question] = alice.allocate()
    assert refused(world.server.key_unavailable(question.ticket, 1)) == 500


def test_who_authenticates_gets_back_what_was_paid(world, alice):
    alice.greet(now=0)
    world.hold_keys, world.rate_limit.left = True, 1
    [question] = alice.allocate()
    assert world.rate_limit.left == 0
    accepted(world.look_up(question, 1))
    assert world.rate_limit.left == 1


def test_who_is_in_memory_does_not_mind_who_waits(world, alice):
    clients = strangers(world, 3)
    world.hold_keys = True
    assert all(waiting(client.allocate()) for client in clients)
    alice.greet(now=0)
    world.hold_keys, world.rate_limit.left = False, 0
    accepted(alice.allocate())


def test_a_request_that_is_given_up_leaves_nothing_and_may_come_again(world):
    [client] = strangers(world, 1)
    world.hold_keys = True
    request = client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP))
    world.server.key_given_up(waiting(world.deliver(request, client.path, 0)).ticket)
    assert world.remnants() == {}
    assert waiting(world.deliver(request, client.path, 1))


@pytest.fixture
def besieged(new_world) -> Client:
    """Alice, who has an allocation and can be removed at any time. Strangers have used up the answers of her
    prefix."""
    world = new_world(limits=Limits(requests_burst=4, requests_per_allocation=1))
    world.removable.add("alice")
    alice = world.client()
    accepted(alice.allocate())
    world.hold_keys, world.rate_limit.left = True, 0
    return alice


def test_the_user_of_an_allocation_keeps_it_whatever_strangers_do(besieged):
    question = waiting(besieged.refresh(600, now=1))
    assert question is not None
    assert question.stranger is None
    accepted(besieged.world.look_up(question, 1))


def test_what_the_user_of_an_allocation_has_wait_is_paid_from_its_requests_once(besieged):
    asked = [besieged.refresh(600, now=1) for _ in range(6)]
    assert [bool(waiting(outputs)) for outputs in asked] == [True] * 4 + [False] * 2
    assert asked[5] == [Throttled(HERE, Throttle.REQUESTS)]
    for outputs in asked[:4]:
        accepted(besieged.world.look_up(waiting(outputs), 1))


def test_another_users_name_on_the_path_of_an_allocation_is_a_strangers(besieged):
    besieged.username = "bob"
    assert waiting(besieged.refresh(600, now=1)) is None
