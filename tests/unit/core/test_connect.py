"""RFC 6062: TCP between a client and its peers, as the core decides it."""

import pytest
from stunwire import (
    CONNECTION_ID,
    DONT_FRAGMENT,
    EVEN_PORT,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    MessageClass,
    Method,
)
from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, Transport
from turnrelay.core.events import PeerDenied
from turnrelay.core.limits import CONNECT_TIMEOUT, CONNECTION_BIND_TIMEOUT, Limits
from turnrelay.core.outputs import (
    AcceptPeer,
    ClosePeer,
    CloseRelay,
    ConnectToPeer,
    Grant,
    JoinPeer,
    OpenRelay,
    SendToPeer,
)
from unit.core.conftest import World
from unit.core.turn_client import (
    HERE,
    OTHER_PEER,
    PEER,
    PEER6,
    SAME_HOST,
    STREAM,
    accepted,
    answer,
    only,
    peer,
    refused,
    reply,
    silent,
    tcp,
)

TCP = 6
DATA_PATH, SECOND_DATA_PATH = tcp("198.51.100.17", 42001), tcp("198.51.100.17", 42002)
WITH_TCP = (REQUESTED_TRANSPORT, TCP)


@pytest.fixture
def world():
    return World(tcp_relays=True)


@pytest.fixture
def control(world):
    """Alice's control connection, with its allocation."""
    client = world.client(STREAM)
    accepted(client.ask(Method.ALLOCATE, WITH_TCP, now=0))
    return client


def connect(client, address=PEER, now=0):
    return client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, address), now=now)


def bind(world, connection_id, now=0, path=DATA_PATH, username="alice"):
    return world.client(path, username).ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), now=now)


def connected(world, client, address=PEER, now=0):
    """The CONNECTION-ID of a connection that the peer took."""
    [wanted] = only(connect(client, address, now), ConnectToPeer)
    return accepted(world.server.peer_connected(wanted.connection_id, now)).get(CONNECTION_ID)


def relay_of(world, path=STREAM):
    [relay] = world.state.allocations[path].relays.values()
    return relay.address


# -- Allocate (section 5.1) -------------------------------------------------------------------------------


def test_a_tcp_relay_is_opened_where_it_is_asked_for(world):
    outputs = world.client(STREAM).ask(Method.ALLOCATE, WITH_TCP, now=0)
    assert [opened.tcp for opened in only(outputs, OpenRelay)] == [True]
    assert accepted(outputs).get(XOR_RELAYED_ADDRESS) is not None


def test_without_the_operators_word_there_are_no_tcp_relays():
    assert refused(World().client(STREAM).ask(Method.ALLOCATE, WITH_TCP, now=0)) == 442


@pytest.mark.parametrize("path", [HERE, FiveTuple(Transport.WEBSOCKET, STREAM.server, STREAM.client)])
def test_who_does_not_come_over_tcp_gets_no_tcp_relay(world, path):
    assert refused(world.client(path).ask(Method.ALLOCATE, WITH_TCP, now=0)) == 400


@pytest.mark.parametrize(
    "unfit", [(EVEN_PORT, False), (DONT_FRAGMENT, True), (RESERVATION_TOKEN, bytes(8))], ids=str
)
def test_attributes_of_udp_relays_are_refused(world, unfit):
    assert refused(world.client(STREAM).ask(Method.ALLOCATE, WITH_TCP, unfit, now=0)) == 400


# -- Connect (section 5.2) --------------------------------------------------------------------------------


def test_connect_is_answered_when_the_peer_took_the_connection(world, control):
    outputs = connect(control)
    [wanted] = only(outputs, ConnectToPeer)
    assert (wanted.relay, wanted.peer) == (relay_of(world), PEER)
    assert silent(outputs)
    response = accepted(world.server.peer_connected(wanted.connection_id, 1))
    assert response.get(CONNECTION_ID) == wanted.connection_id


def test_connect_needs_no_permission_and_makes_none(world, control):
    connected(world, control)
    assert not world.state.allocations[STREAM].permissions


def test_a_peer_that_takes_no_connection_is_447(world, control):
    [wanted] = only(connect(control), ConnectToPeer)
    assert refused(world.server.peer_gone(wanted.connection_id)) == 447
    assert not world.state.peer_connections


def test_a_peer_that_stays_silent_is_447_in_time(world, control):
    connect(control)
    assert not world.sleep(CONNECT_TIMEOUT - 1)
    outputs = world.sleep(CONNECT_TIMEOUT)
    assert refused(outputs) == 447
    assert only(outputs, ClosePeer)


def test_a_second_connection_to_the_same_peer_is_446_at_every_stage(world, control):
    [wanted] = only(connect(control), ConnectToPeer)
    assert refused(connect(control)) == 446
    world.server.peer_connected(wanted.connection_id, 0)
    assert refused(connect(control)) == 446
    accepted(bind(world, wanted.connection_id))
    assert refused(connect(control)) == 446
    assert only(connect(control, SAME_HOST), ConnectToPeer)
    world.server.peer_gone(wanted.connection_id)
    assert only(connect(control), ConnectToPeer)


def test_policy_is_asked_about_the_peer_of_a_connect(world, control):
    world.peers.denied_hosts.add(PEER.host)
    outputs = connect(control)
    assert refused(outputs) == 403
    assert only(outputs, PeerDenied)
    assert not only(outputs, ConnectToPeer)


def test_connect_without_peer_or_of_another_family(world, control):
    assert refused(control.ask(Method.CONNECT, now=0)) == 400
    assert refused(connect(control, PEER6)) == 443


def test_nobody_connects_a_relayed_address_to_itself(world, control):
    assert refused(connect(control, PeerAddress(relay_of(world)))) == 403


def test_connect_without_a_tcp_allocation_is_437(world, streaming):
    assert refused(connect(streaming)) == 437
    accepted(streaming.allocate())
    assert refused(connect(streaming)) == 437


def test_connections_of_one_allocation_are_bounded():
    world = World(tcp_relays=True, limits=Limits(connections_per_allocation=2))
    control = world.client(STREAM)
    control.ask(Method.ALLOCATE, WITH_TCP, now=0)
    assert [bool(only(connect(control, peer("203.0.113.5", port)), ConnectToPeer)) for port in (1, 2)] == [
        True,
        True,
    ]
    assert refused(connect(control, peer("203.0.113.5", 3))) == 508
    control.permit(OTHER_PEER)
    assert not world.server.peer_arrived(relay_of(world), OTHER_PEER, 1, 0)


def test_another_tcp_relay_of_ours_is_a_fair_peer_and_a_udp_relay_is_not(world, control):
    world.peers.denied_hosts.add("192.0.2.200")
    other = world.client(tcp("198.51.100.18", 1), "bob")
    [other_relay] = accepted(other.ask(Method.ALLOCATE, WITH_TCP, now=0)).get_all(XOR_RELAYED_ADDRESS)
    assert only(connect(control, PeerAddress(other_relay)), ConnectToPeer)
    [udp_relay] = accepted(world.client(HERE).allocate()).get_all(XOR_RELAYED_ADDRESS)
    assert refused(connect(control, PeerAddress(udp_relay))) == 403
    assert refused(world.client(HERE).permit(PeerAddress(other_relay))) == 403


# -- peers that connect (section 5.3) ---------------------------------------------------------------------


def test_a_permitted_peer_is_announced_and_others_are_not_let_in(world, control):
    relay = relay_of(world)
    assert world.server.peer_arrived(relay, PEER, 1, 0) == []
    control.permit(SAME_HOST)
    outputs = world.server.peer_arrived(relay, PEER, 2, 0)
    [accepted_peer] = only(outputs, AcceptPeer)
    indication = Message.decode(reply(outputs).data)
    assert (indication.message_class, indication.method) == (
        MessageClass.INDICATION,
        Method.CONNECTION_ATTEMPT,
    )
    assert indication.get(XOR_PEER_ADDRESS) == PEER
    assert indication.get(CONNECTION_ID) == accepted_peer.connection_id
    assert reply(outputs).path == STREAM
    assert accepted_peer.arrival == 2
    accepted(bind(world, accepted_peer.connection_id))


def test_a_permission_that_ended_lets_nobody_in(world, control):
    control.permit(PEER)
    assert world.server.peer_arrived(relay_of(world), PEER, 1, 301) == []


def test_nobody_is_let_in_at_an_address_that_is_not_relayed(world, control):
    control.permit(PEER)
    elsewhere = RelayedAddress(peer("192.0.2.200", 1))
    assert world.server.peer_arrived(elsewhere, PEER, 1, 0) == []


# -- ConnectionBind (section 5.4) -------------------------------------------------------------------------


def test_connection_bind_joins_after_its_answer(world, control):
    connection_id = connected(world, control)
    outputs = bind(world, connection_id)
    accepted(outputs)
    assert outputs[-1] == JoinPeer(connection_id, DATA_PATH)
    assert world.state.holds(DATA_PATH)
    assert not world.sleep(CONNECTION_BIND_TIMEOUT + 1), "a bound connection is not given up"


def test_a_client_goes_on_with_the_nonce_of_its_control_connection(world, control):
    connection_id = connected(world, control)
    data = world.client(DATA_PATH)
    data.realm, data.nonce = control.realm, control.nonce
    accepted(data.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), now=0))
    stranger = world.client(tcp("198.51.100.99", 1))
    stranger.realm, stranger.nonce = control.realm, control.nonce
    assert refused(stranger.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), now=0)) == 438


def test_a_connection_is_bound_once(world, control):
    connection_id = connected(world, control)
    accepted(bind(world, connection_id))
    assert refused(bind(world, connection_id, path=SECOND_DATA_PATH)) == 400


def test_what_names_no_waiting_connection_is_400(world, control):
    [connecting] = only(connect(control), ConnectToPeer)
    for connection_id in (connecting.connection_id, connecting.connection_id ^ 1, 0):
        assert refused(bind(world, connection_id)) == 400
    assert refused(world.client(DATA_PATH).ask(Method.CONNECTION_BIND, now=0)) == 400


def test_a_control_connection_or_a_tunnel_cannot_carry_data(world, control):
    connection_id = connected(world, control)
    assert refused(control.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), now=0)) == 400
    tunnel = FiveTuple(Transport.WEBSOCKET, DATA_PATH.server, DATA_PATH.client)
    assert refused(bind(world, connection_id, path=tunnel)) == 400


def test_another_user_cannot_bind(world, control):
    connection_id = connected(world, control)
    assert refused(bind(world, connection_id, path=SECOND_DATA_PATH, username="bob")) == 441
    accepted(bind(world, connection_id))


def test_a_connection_that_nobody_binds_is_closed(world, control):
    connection_id = connected(world, control, now=20)
    assert not only(world.sleep(20 + CONNECTION_BIND_TIMEOUT - 1), ClosePeer)
    assert only(world.sleep(20 + CONNECTION_BIND_TIMEOUT), ClosePeer) == [ClosePeer(connection_id)]
    assert refused(bind(world, connection_id, now=60)) == 400


@pytest.fixture
def pipelining(world, control):
    """A client who asks for two things by one connection, which both wait for a key: first to bind the
    connection that goes by this number, then this other thing."""

    def ask(connection_id, method, *attributes):
        client = world.client(DATA_PATH)
        client.greet(now=0)
        world.hold_keys = True
        first = client.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), now=0)
        return [*first, *client.ask(method, *attributes, now=0)]

    return ask


def test_what_comes_behind_a_connection_bind_is_not_carried_out(world, control, pipelining):
    first, second = connected(world, control), connected(world, control, SAME_HOST)
    questions = pipelining(first, Method.CONNECTION_BIND, (CONNECTION_ID, second))
    outputs = [world.look_up(question, 1) for question in questions]
    assert outputs[0][-1] == JoinPeer(first, DATA_PATH)
    assert outputs[1] == []
    assert world.disconnect(DATA_PATH, 2) == [ClosePeer(first)]
    assert ClosePeer(second) in world.sleep(10_000)
    assert not world.remnants()


def test_a_data_connection_gets_no_allocation(world, control, pipelining):
    questions = pipelining(connected(world, control), Method.ALLOCATE, WITH_TCP)
    for question in questions:
        outputs = world.look_up(question, 1)
    assert outputs == []
    assert set(world.state.allocations) == {STREAM}


def test_nothing_is_said_in_a_data_connection(world, control, pipelining):
    found, missing = pipelining(connected(world, control), Method.CONNECTION_BIND, (CONNECTION_ID, 1))
    accepted(world.look_up(found, 1))
    assert world.server.key_unavailable(missing.ticket, 1) == []


# -- the end (section 5.5) --------------------------------------------------------------------------------


def test_either_end_ends_the_connection_and_the_allocation_stays(world, control):
    first, second = connected(world, control), connected(world, control, SAME_HOST)
    bind(world, first)
    bind(world, second, path=SECOND_DATA_PATH)
    assert world.disconnect(DATA_PATH, 1) == [ClosePeer(first)]
    assert world.server.peer_gone(second) == [ClosePeer(second)]
    assert not world.state.data_paths
    assert STREAM in world.state.allocations


@pytest.mark.parametrize("how", ["refresh", "disconnect", "expiry", "shut_down"])
def test_with_the_allocation_everything_ends(world, control, how):
    bound, connecting = connected(world, control), only(connect(control, SAME_HOST), ConnectToPeer)[0]
    bind(world, bound)
    if how == "refresh":
        outputs = control.refresh(0, now=1)
    elif how == "disconnect":
        outputs = world.disconnect(STREAM, 1)
    elif how == "expiry":
        outputs = world.sleep(10_000)
    else:
        outputs = world.shut_down(1)
    assert {closed.connection_id for closed in only(outputs, ClosePeer)} == {bound, connecting.connection_id}
    assert isinstance([o for o in outputs if isinstance(o, ClosePeer | CloseRelay)][-1], CloseRelay)
    assert not world.server.peer_connected(connecting.connection_id, 10_001)
    assert not world.server.peer_gone(bound)
    assert not world.disconnect(DATA_PATH, 10_001)
    assert not world.remnants()


# -- what a TCP allocation has not ------------------------------------------------------------------------


def test_no_datagram_passes_a_tcp_allocation(world, control):
    granted = control.permit(PEER)
    assert answer(granted).message_class is MessageClass.SUCCESS_RESPONSE
    assert not only(granted, Grant)
    assert not only(control.send(PEER, b"data"), SendToPeer)
    assert refused(control.bind(0x4000, PEER)) == 400
