"""What one process gave out and another is asked for: reserved ports, connections to be bound, peers."""

import pytest
from stunwire import (
    CONNECTION_ID,
    EVEN_PORT,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Method,
    TransportAddress,
)
from turnrelay.core.addresses import RelayedAddress
from turnrelay.core.events import AllocationRefused, RefusalReason
from turnrelay.core.outputs import (
    AskForReservation,
    CloseRelay,
    ConnectToPeer,
    GiveReservation,
    OpenRelay,
    PassConnection,
    RefuseReservation,
    Reply,
)
from turnrelay.core.protocols import Limit
from unit.core.conftest import FakeLease, World
from unit.core.turn_client import HERE, PEER, STREAM, UDP, accepted, only, refused, udp

TCP = 6
NEXT_PATH = udp("198.51.100.15", 40001)
OF_ONE = bytes((1,)) + bytes(7)
"""A token that process 1 may have given out."""


class OneOfThree:
    """Process 1 of 0, 1 and 2; process 2 has one relayed address of each kind."""

    UDP = RelayedAddress(TransportAddress("192.0.2.200", 60000))
    TCP = RelayedAddress(TransportAddress("192.0.2.200", 60001))

    def __init__(self, member: int) -> None:
        self.member = member

    def has_other(self, member: int) -> bool:
        return member < 3 and member != self.member

    def other_has(self, relay: RelayedAddress, *, tcp: bool) -> bool:
        return relay == (self.TCP if tcp else self.UDP)


@pytest.fixture
def giver() -> World:
    return World(processes=OneOfThree(1), tcp_relays=True)


@pytest.fixture
def taker() -> World:
    return World(processes=OneOfThree(2), tcp_relays=True)


def reserve(world: World) -> tuple[bytes, TransportAddress]:
    message = accepted(world.client().allocate((EVEN_PORT, True)))
    token, relayed = message.get(RESERVATION_TOKEN), message.get(XOR_RELAYED_ADDRESS)
    return token, relayed._replace(port=relayed.port + 1)


def ask(world: World, token: bytes, now: float = 1, path=NEXT_PATH) -> AskForReservation:
    [question] = only(world.client(path).allocate((RESERVATION_TOKEN, token), now=now), AskForReservation)
    return question


def test_a_token_says_which_process_gave_it_out(giver, taker):
    assert reserve(giver)[0][0] == 1
    assert reserve(taker)[0][0] == 2


def test_a_reserved_port_moves_to_the_process_that_is_asked_for_it(giver, taker):
    token, reserved = reserve(giver)
    member, ticket, asked, account = ask(taker, token)
    assert (member, asked, account) == (1, token, "alice")
    [given] = giver.server.reservation_wanted(2, ticket, token, account)
    assert given == GiveReservation(2, ticket, token, reserved, "alice", HERE.client.host)

    lease = FakeLease("alice", HERE.client.host)
    outputs = taker.server.reservation_came(ticket, reserved, lease, 2)
    assert accepted(outputs).get(XOR_RELAYED_ADDRESS) == reserved
    assert not only(outputs, OpenRelay)
    assert taker.quotas.live() == 0, "it pays with the lease that came along"
    taker.plane.opened.add(reserved)
    assert taker.shut_down(3)
    assert lease.releases == 1

    # Paid for on both sides for a moment, on neither never.
    assert giver.quotas.live() == 2
    assert giver.settle(giver.server.reservation_taken(token), 2) == [CloseRelay(reserved)]
    assert giver.quotas.live() == 1
    assert giver.server.reservation_taken(token) == []


def test_a_token_is_good_once_and_for_its_account_wherever_it_is_redeemed(giver):
    token, _ = reserve(giver)
    refusal = [RefuseReservation(2, 7)]
    assert giver.server.reservation_wanted(2, 7, token, "bob") == refusal
    assert giver.server.reservation_wanted(2, 7, OF_ONE, "alice") == refusal
    assert giver.server.reservation_taken(token) == [], "nobody was given it"
    assert only(giver.server.reservation_wanted(2, 7, token, "alice"), GiveReservation)
    assert giver.server.reservation_wanted(2, 7, token, "alice") == refusal
    assert refused(giver.client(NEXT_PATH).allocate((RESERVATION_TOKEN, token))) == 508


def test_a_process_that_never_says_that_it_took_the_port_is_waited_for_as_long_as_the_port_was_held(giver):
    token, reserved = reserve(giver)
    giver.server.reservation_wanted(2, 7, token, "alice")
    assert only(giver.sleep(60), CloseRelay) == [CloseRelay(reserved)]
    assert giver.quotas.live() == 1


def test_a_quota_that_is_used_up_does_not_take_away_what_was_reserved_elsewhere(taker):
    taker.quotas.limit = Limit.ALLOCATIONS_PER_USER
    question = ask(taker, OF_ONE)
    relay = RelayedAddress(TransportAddress("192.0.2.200", 50003))
    accepted(taker.server.reservation_came(question.ticket, relay, FakeLease("alice", "h"), 2))


@pytest.mark.parametrize("how", ["refused", "no answer"])
def test_without_the_reservation_the_client_gets_508(taker, how):
    ticket = ask(taker, OF_ONE, now=1).ticket
    outputs = taker.server.reservation_missing(ticket, 2) if how == "refused" else taker.sleep(3)
    assert refused(outputs) == 508
    [event] = only(outputs, AllocationRefused)
    assert event.reason is RefusalReason.RESERVATION_TOKEN
    assert taker.server.reservation_missing(ticket, 4) == []
    accepted(taker.client(NEXT_PATH).allocate(now=5))

    # What comes after all is closed.
    late, lease = RelayedAddress(TransportAddress("192.0.2.200", 50003)), FakeLease("alice", "h")
    assert taker.server.reservation_came(ticket, late, lease, 6) == [CloseRelay(late)]
    assert lease.releases == 1


def test_a_retransmission_asks_nobody_again(taker):
    client = taker.client(NEXT_PATH)
    client.greet(now=0)
    request = client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), (RESERVATION_TOKEN, OF_ONE))
    assert only(taker.deliver(request, NEXT_PATH, 1), AskForReservation)
    assert taker.deliver(request, NEXT_PATH, 1.5) == []


def test_a_client_that_is_gone_meanwhile_leaves_nothing_behind(taker):
    ticket = ask(taker, OF_ONE, path=STREAM).ticket
    taker.disconnect(STREAM, 1)
    relay, lease = RelayedAddress(TransportAddress("192.0.2.200", 50003)), FakeLease("alice", "h")
    assert taker.server.reservation_came(ticket, relay, lease, 1.5) == [CloseRelay(relay)]
    assert lease.releases == 1
    other = ask(taker, OF_ONE, path=STREAM._replace(client=NEXT_PATH.client)).ticket
    taker.disconnect(STREAM._replace(client=NEXT_PATH.client), 1)
    assert taker.server.reservation_missing(other, 2) == []
    assert taker.remnants() == {}


def test_a_token_of_no_process_is_refused_at_once(taker):
    assert refused(taker.client().allocate((RESERVATION_TOKEN, bytes((3,)) + bytes(7)))) == 508


def test_a_connection_that_another_process_has_is_bound_there(giver, taker):
    caller = giver.client(STREAM)
    accepted(caller.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, TCP), now=0))
    [question] = only(caller.ask(Method.CONNECT, (XOR_PEER_ADDRESS, PEER), now=0), ConnectToPeer)
    assert question.connection_id >> 24 == 1
    answer = accepted(giver.server.peer_connected(question.connection_id, 1))
    connection_id = answer.get(CONNECTION_ID)
    path = STREAM._replace(client=NEXT_PATH.client)
    outputs = taker.client(path).ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), now=1)
    [passed] = only(outputs, PassConnection)
    assert (passed.path, passed.member) == (path, 1)
    assert not only(outputs, Reply)
    assert taker.disconnect(path, 1) == []
    assert taker.remnants() == {}
    accepted(giver.deliver(passed.request, path, 1))
    assert giver.state.data_paths.keys() == {path}


def test_a_request_that_names_no_connection_stays_where_it_came(taker):
    path = STREAM._replace(client=NEXT_PATH.client)
    outputs = taker.client(path).ask(Method.CONNECTION_BIND, now=1)
    assert not only(outputs, PassConnection)
    assert refused(outputs) == 400


def test_a_relayed_address_of_another_process_is_a_peer_of_its_kind_alone(giver):
    giver.peers.denied_hosts.add(OneOfThree.UDP.host)
    datagrams, stream = giver.client(), giver.client(STREAM)
    accepted(datagrams.allocate())
    accepted(stream.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, TCP), now=0))
    accepted(datagrams.permit(OneOfThree.UDP))
    assert refused(datagrams.permit(OneOfThree.TCP)) == 403
    assert only(stream.ask(Method.CONNECT, (XOR_PEER_ADDRESS, OneOfThree.TCP), now=1), ConnectToPeer)
    assert refused(stream.ask(Method.CONNECT, (XOR_PEER_ADDRESS, OneOfThree.UDP), now=1)) == 403
