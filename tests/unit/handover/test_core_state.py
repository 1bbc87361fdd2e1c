"""What one core remembers, another one goes on with: written down, read, and the same from then on."""

import pytest
from stunwire import (
    EVEN_PORT,
    LIFETIME,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_RELAYED_ADDRESS,
    Method,
)
from turnrelay.core.events import AllocationEnded, EndReason
from turnrelay.core.outputs import ChannelFlow, Grant
from turnrelay.handover.core_state import held_allocations, held_replies, held_reservations, restore
from turnrelay.handover.format import FORMAT, FormatError, Holdings, read_holdings, read_offer
from unit.core.conftest import World
from unit.core.turn_client import (
    ELSEWHERE,
    OTHER_PEER,
    PEER,
    SHA256,
    STREAM,
    accepted,
    only,
    refused,
    reply,
    udp,
)


def written(world: World, now: float) -> Holdings:
    state = world.state
    return Holdings(
        allocations=held_allocations(state.allocations.values(), now),
        reservations=held_reservations(state.reservations.values()),
        replies=held_replies(state),
        relays=[],
        connections=[],
        listening=[],
        spent_tokens=[],
        counters=[],
        kernel_totals=None,
        elsewhere=[],
    )


def successor(world: World, now: float) -> tuple[World, list]:
    """A world that goes on, and what its plane was granted."""
    holdings = read_holdings(written(world, now).model_dump_json().encode())
    after = World()
    after.plane.opened |= world.plane.opened
    return after, restore(after.state, holdings, after.plane.opened, now)


def moved(client, world: World):
    """The same client, who writes to the other world without noticing."""
    client.world = world
    return client


def test_grants_are_those_that_the_first_one_gave(world, alice):
    alice.allocate()
    granted = only(alice.bind(0x4000, PEER, now=10), Grant) + only(alice.permit(OTHER_PEER, now=20), Grant)
    _, outputs = successor(world, now=30)
    assert sorted(map(repr, outputs)) == sorted(map(repr, granted))


def test_what_has_expired_meanwhile_is_granted_to_nobody_for_longer(world, alice):
    alice.allocate()
    alice.bind(0x4000, PEER, now=10)
    after, outputs = successor(world, now=400)
    [channel] = [grant for grant in outputs if isinstance(grant.flow, ChannelFlow)]
    assert channel.expires_at == 310, "the permission that it hangs on ended then"
    assert [event.reason for event in only(after.sleep(until=700), AllocationEnded)] == [EndReason.EXPIRED]
    assert not after.remnants()


@pytest.mark.parametrize("how", [{}, {"algorithm": SHA256, "anonymous": True}])
def test_a_client_goes_on_with_its_nonce_and_its_key(world, how):
    client = world.client(**how)
    first = accepted(client.allocate()).get(XOR_RELAYED_ADDRESS)
    after, _ = successor(world, now=100)
    client = moved(client, after)
    assert accepted(client.refresh(600, now=110)).get(LIFETIME) == 600
    assert refused(client.allocate(now=120)) == 437
    assert after.plane.opened == {first}
    accepted(client.refresh(0, now=130))
    assert not after.plane.opened
    assert not after.quotas.live()


def test_a_retransmitted_request_gets_the_answer_of_the_first_one(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    first = reply(world.deliver(request, alice.path, 0)).data
    after, _ = successor(world, now=1)
    assert reply(after.deliver(request, alice.path, 2)).data == first
    assert refused(after.deliver(request, alice.path, 45)) == 437, "nobody retransmits for so long"


def test_a_reservation_is_kept_for_its_time(world, alice):
    answer = accepted(alice.allocate((EVEN_PORT, True)))
    token, even = answer.get(RESERVATION_TOKEN), answer.get(XOR_RELAYED_ADDRESS)
    after, _ = successor(world, now=10)
    assert after.quotas.live() == 2
    other = after.client(udp("198.51.100.15", 40001))
    given = accepted(other.allocate((RESERVATION_TOKEN, token), now=20)).get(XOR_RELAYED_ADDRESS)
    assert given == even._replace(port=even.port + 1)
    late, _ = successor(world, now=10)
    late.sleep(until=40)
    assert len(late.plane.opened) == 1


def test_two_clients_of_the_relay_stay_each_others_peers(world, alice, bob):
    hers = accepted(alice.allocate()).get(XOR_RELAYED_ADDRESS)
    his = accepted(bob.allocate()).get(XOR_RELAYED_ADDRESS)
    world.peers.denied_hosts = {hers.host}
    alice.bind(0x4000, his, now=1)
    bob.bind(0x4000, hers, now=1)
    holdings = written(world, now=2)
    after = World()
    after.peers.denied_hosts = {hers.host}
    grants = restore(after.state, holdings, world.plane.opened, 2)
    assert {grant.flow.path for grant in grants if isinstance(grant.flow, ChannelFlow)} == {
        alice.path,
        bob.path,
    }
    assert bob.path == ELSEWHERE
    assert STREAM not in after.state.allocations


def test_an_allocation_without_its_socket_is_none(world, alice):
    alice.allocate()
    with pytest.raises(ValueError, match="no socket"):
        restore(World().state, written(world, now=1), set(), 1)


def test_half_a_state_is_refused(world, alice):
    alice.allocate()
    text = written(world, now=1).model_dump_json()
    for body in (
        text.replace('"created_at"', '"made_at"'),
        text.replace('"replies"', '"answers"'),
        text[:-1],
        text.replace('"created_at":0.0', '"created_at":"0"'),
    ):
        assert body != text
        with pytest.raises(FormatError):
            read_holdings(body.encode())


def test_another_format_is_known_by_its_number_whatever_else_is_in_it():
    with pytest.raises(FormatError, match=rf"format {FORMAT + 1}, and this version reads {FORMAT}"):
        read_offer(b'{"format": %d, "mood": "good"}' % (FORMAT + 1))
    with pytest.raises(FormatError):
        read_offer(b'{"format": %d, "mood": "good"}' % FORMAT)
    with pytest.raises(FormatError):
        read_offer(b"\x80\x04K\x01.")
