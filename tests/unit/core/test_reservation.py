"""EVEN-PORT and RESERVATION-TOKEN (RFC 8656 sections 7.2 and 18.7): the port after mine, for a while."""

import pytest
from stunwire import EVEN_PORT, LIFETIME, REQUESTED_ADDRESS_FAMILY, RESERVATION_TOKEN, XOR_RELAYED_ADDRESS
from turnrelay.core.outputs import CloseRelay, OpenRelay
from turnrelay.core.protocols import Limit
from unit.core.turn_client import PEER, PEER6, STREAM, accepted, only, refused, reply, tlvs, udp

NEXT_PATH = udp("198.51.100.15", 40001)


def reserve(client, now=0):
    """The relayed address that was given and the token for the next."""
    message = accepted(client.allocate((EVEN_PORT, True), now=now))
    return message.get(XOR_RELAYED_ADDRESS), message.get(RESERVATION_TOKEN)


def test_a_token_of_eight_bytes_comes_with_an_even_port(alice):
    outputs = alice.allocate((EVEN_PORT, True))
    found = dict(tlvs(reply(outputs).data))
    assert len(found[0x0022]) == 8
    assert accepted(outputs).get(XOR_RELAYED_ADDRESS).port % 2 == 0


def test_tokens_cannot_be_guessed_from_each_other(world):
    tokens = {reserve(world.client(udp("198.51.100.15", port)))[1] for port in range(40000, 40050)}
    assert len(tokens) == 50
    assert not any(token.startswith(bytes(4)) for token in tokens)


@pytest.mark.parametrize("path", [NEXT_PATH, STREAM, udp("2001:db8::15", 1)])
def test_the_token_gives_the_next_port_on_any_5_tuple(world, alice, path):
    """A reservation is server-wide: another client address and transport may use it."""
    even, token = reserve(alice)
    outputs = world.client(path).allocate((RESERVATION_TOKEN, token), now=10)
    assert not only(outputs, OpenRelay)
    message = accepted(outputs)
    assert message.get_all(XOR_RELAYED_ADDRESS) == [even._replace(port=even.port + 1)]
    assert message.get(LIFETIME) == 600
    assert RESERVATION_TOKEN not in message
    assert world.quotas.live() == 2


def test_the_lifetime_of_a_reserved_port_can_be_asked_for(world, alice):
    _, token = reserve(alice)
    outputs = world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token), (LIFETIME, 1800))
    assert accepted(outputs).get(LIFETIME) == 1800


def test_a_reservation_in_ipv6(world, alice):
    message = accepted(alice.allocate((EVEN_PORT, True), (REQUESTED_ADDRESS_FAMILY, 2)))
    second = world.client(NEXT_PATH)
    outputs = second.allocate((RESERVATION_TOKEN, message.get(RESERVATION_TOKEN)))
    assert ":" in accepted(outputs).get(XOR_RELAYED_ADDRESS).host
    accepted(second.permit(PEER6))
    assert refused(second.permit(PEER)) == 443


@pytest.mark.parametrize("now", [0, 15, 29, 29.999])
def test_a_reservation_is_held_for_30_seconds(world, alice, now):
    """Section 7.2: MUST hold this reservation for at least 30 seconds."""
    _, token = reserve(alice)
    assert not only(world.sleep(now), CloseRelay)
    accepted(world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token), now=now))


def test_a_reservation_that_nobody_used_is_released(world, alice):
    even, token = reserve(alice)
    assert world.sleep(60) == [CloseRelay(even._replace(port=even.port + 1))]
    assert world.plane.opened == {even}
    assert refused(world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token), now=60)) == 508


def test_a_token_is_good_once(world, alice):
    _, token = reserve(alice)
    accepted(world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token), now=1))
    assert refused(world.client(STREAM).allocate((RESERVATION_TOKEN, token), now=2)) == 508
    assert not only(world.sleep(100), CloseRelay)


def test_a_token_is_for_the_account_that_got_it(world, alice):
    _, token = reserve(alice)
    assert refused(world.client(NEXT_PATH, "bob").allocate((RESERVATION_TOKEN, token))) == 508
    accepted(world.client(STREAM).allocate((RESERVATION_TOKEN, token)))


def test_another_name_of_the_same_account_may_use_it(world, alice):
    world.accounts |= {"alice": "family", "bob": "family"}
    _, token = reserve(alice)
    accepted(world.client(NEXT_PATH, "bob").allocate((RESERVATION_TOKEN, token)))


def test_a_5_tuple_in_use_does_not_spend_the_token(world, alice):
    _, token = reserve(alice)
    assert refused(alice.allocate((RESERVATION_TOKEN, token))) == 437
    accepted(world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token)))


def test_a_reserved_port_is_paid_for_when_it_is_reserved(world, alice):
    """A quota that is used up in the meantime does not take away what the token stands for."""
    _, token = reserve(alice)
    assert world.quotas.live() == 2
    world.quotas.limit = Limit.ALLOCATIONS_PER_USER
    accepted(world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token)))
    assert world.quotas.live() == 2


def test_an_account_with_room_for_one_reserves_nothing(world, alice):
    world.quotas.per_account = 1
    outputs = alice.allocate((EVEN_PORT, True))
    assert refused(outputs) == 486
    assert not only(outputs, OpenRelay)
    assert world.quotas.live() == 0
    accepted(alice.allocate((EVEN_PORT, False), now=1))


def test_what_paid_for_a_reservation_is_given_back_with_it(world, alice):
    reserve(alice)
    world.sleep(60)
    assert world.quotas.live() == 1


def test_what_paid_for_a_reservation_ends_with_the_allocation_that_used_it(world, alice):
    _, token = reserve(alice)
    client = world.client(NEXT_PATH)
    client.allocate((RESERVATION_TOKEN, token))
    client.refresh(0)
    assert world.quotas.live() == 1
    alice.refresh(0)
    assert world.quotas.live() == 0


def test_a_pair_that_cannot_be_had_is_given_back_whole(world, alice):
    world.plane.available.clear()
    assert refused(alice.allocate((EVEN_PORT, True))) == 508
    assert world.remnants() == {"replies": 1}


def test_a_retransmission_does_not_spend_it_twice(world, alice):
    _, token = reserve(alice)
    client = world.client(NEXT_PATH)
    first = client.allocate((RESERVATION_TOKEN, token), transaction_id=b"twelve bytes")
    again = client.allocate((RESERVATION_TOKEN, token), transaction_id=b"twelve bytes", now=5)
    assert again == [reply(first)]


@pytest.mark.parametrize("how", ["deleted", "disconnected"])
def test_a_reservation_outlives_the_allocation_it_came_with(world, how):
    client = world.client(STREAM)
    even, token = reserve(client)
    outputs = client.refresh(0, now=1) if how == "deleted" else world.disconnect(STREAM, 1)
    assert only(outputs, CloseRelay) == [CloseRelay(even)]
    accepted(world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token), now=20))


def test_the_reserved_port_lives_and_ends_like_any_other(world, alice):
    even, token = reserve(alice)
    odd = even._replace(port=even.port + 1)
    world.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token), now=10)
    assert only(world.sleep(609), CloseRelay) == [CloseRelay(even)]
    assert only(world.sleep(610), CloseRelay) == [CloseRelay(odd)]
    assert world.remnants() == {}


def test_shutting_down_ends_reservations(world, alice):
    reserve(alice)
    assert len(only(world.shut_down(1), CloseRelay)) == 2
    assert world.remnants() == {"replies": 1}


def test_reservations_are_bounded_by_the_quota_of_their_account(world, alice):
    """A client that allocates, reserves and deletes in a circle must not gather the server's ports."""
    world.quotas.per_account = 4
    most = 0
    for number in range(20):
        alice.allocate((EVEN_PORT, True), now=number / 10)
        alice.refresh(0, now=number / 10)
        most = max(most, len(world.plane.opened))
    assert most <= 4
