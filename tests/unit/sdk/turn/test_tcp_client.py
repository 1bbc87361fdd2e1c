"""TcpTurnClient and ConnectionBind against the server's own core (RFC 6062)."""

import pytest

pytest.importorskip("turnrelay.core", reason="the server is not installed here")

from peerpath.turn import (
    Allocated,
    Bound,
    ConnectionBind,
    Ended,
    EndReason,
    NotBound,
    PeerArrived,
    PeerConnected,
    PeerNotConnected,
    PermissionInstalled,
    Refused,
    TcpTurnClient,
    Transmit,
)
from stunwire import (
    CONNECTION_ID,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    ErrorCode,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from turnrelay.core.addresses import (
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
)
from unit.sdk.turn.relay_in_memory import (
    CREDENTIALS,
    DENIED_HOST,
    OTHER_PEER,
    PEER,
    Cable,
    Relay,
)

DATA_PATH = FiveTuple(
    Transport.TCP,
    ServerAddress(TransportAddress("203.0.113.1", 3478)),
    ClientAddress(TransportAddress("192.0.2.7", 41001)),
)


@pytest.fixture
def cable():
    made = Cable(Relay(tcp_relays=True), TcpTurnClient(CREDENTIALS, reliable=True), transport=Transport.TCP)
    made.start()
    return made


def connect(cable, peer=PEER):
    return cable.do(cable.client.connect(peer, cable.now))


def hear(cable, outputs):
    """What the client says of what the server sends."""
    said = []
    for frame in cable.relay.peers_do(outputs, cable.path, cable.now):
        said += cable.do(cable.client.receive(frame, cable.now))
    return said


def taken(cable, peer=PEER):
    """The relay's connection with a peer that took it."""
    connect(cable, peer)
    [said] = hear(cable, cable.relay.server.peer_connected(cable.relay.dialed[-1].connection_id, cable.now))
    return said


def bind(cable, bound_to, after=b"", piece=None):
    """The outcome of a data connection, on which the server says `after` behind its answers."""
    core = cable.client.connection_bind(bound_to)
    queue, said = core.start(cable.now), []
    while queue:
        output = queue.pop(0)
        if not isinstance(output, Transmit):
            said.append(output)
            continue
        stream = b"".join(cable.relay.receive(output.data, DATA_PATH, cable.now)) + after
        for start in range(0, len(stream), piece or len(stream)):
            queue += core.receive(stream[start : start + (piece or len(stream))], cable.now)
    return said


def test_the_allocation_is_for_tcp(cable):
    requests = [Message.decode(data) for data in cable.transmitted]
    assert {request.get(REQUESTED_TRANSPORT) for request in requests} == {6}
    assert [type(output) for output in cable.outputs] == [Allocated]


def test_a_server_without_tcp_relays_refuses_with_442():
    cable = Cable(Relay(), TcpTurnClient(CREDENTIALS, reliable=True), transport=Transport.TCP)
    refused, ended = cable.start()
    assert (type(refused), refused.code) == (Refused, ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL)
    assert ended == Ended(EndReason.REFUSED)


def test_connect_leads_to_a_number_once_the_peer_has_taken_the_connection(cable):
    assert connect(cable) == []
    [dialed] = cable.relay.dialed
    assert dialed.peer == PEER
    [said] = hear(cable, cable.relay.server.peer_connected(dialed.connection_id, 1.0))
    assert said == PeerConnected(PEER, dialed.connection_id)


@pytest.mark.parametrize("piece", [None, 1, 7])
def test_the_bound_connection_is_the_peers_from_the_byte_after_the_answer(cable, piece):
    said = taken(cable)
    # What looks like STUN, and is none of ours.
    words = Message(MessageClass.REQUEST, Method.BINDING).encode() + b"\xff"
    outcome = bind(cable, said.connection_id, words, piece)
    assert outcome[0] == Bound(words if piece is None else outcome[0].data)
    assert words.startswith(outcome[0].data)
    assert cable.relay.joined == [DATA_PATH]


def test_the_control_connections_nonce_serves_the_data_connection(cable):
    said = taken(cable)
    core = cable.client.connection_bind(said.connection_id)
    [first] = core.start(cable.now)
    [answer] = cable.relay.receive(first.data, DATA_PATH, cable.now)
    assert Message.decode(answer).message_class is MessageClass.SUCCESS_RESPONSE


def test_a_stale_nonce_is_replaced_on_the_data_connection():
    relay = Relay(tcp_relays=True, nonce_lifetime=10)
    cable = Cable(relay, TcpTurnClient(CREDENTIALS, reliable=True), transport=Transport.TCP)
    cable.start()
    said = taken(cable)
    cable.now = 20.0
    assert bind(cable, said.connection_id) == [Bound(b"")]


def test_a_connection_that_is_bound_too_late_is_gone(cable):
    said = taken(cable)
    cable.run_until(31.0)
    [failed] = bind(cable, said.connection_id)
    assert (type(failed), failed.code) == (NotBound, ErrorCode.BAD_REQUEST)
    assert cable.relay.closed == [said.connection_id]


def test_a_second_bind_to_the_same_number_fails(cable):
    said = taken(cable)
    assert bind(cable, said.connection_id) == [Bound(b"")]
    core = cable.client.connection_bind(said.connection_id)
    [request] = core.start(cable.now)
    other = DATA_PATH._replace(client=ClientAddress(TransportAddress("192.0.2.7", 41002)))
    [answer] = cable.relay.receive(request.data, other, cable.now)
    [failed] = core.receive(answer, cable.now)
    assert failed.code == ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    ("peer", "code"),
    [
        (TransportAddress(DENIED_HOST, 80), ErrorCode.FORBIDDEN),
        (TransportAddress("2001:db8::80", 80), ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH),
    ],
)
def test_peers_that_may_not_be_reached(cable, peer, code):
    [said] = connect(cable, peer)
    assert (type(said), said.peer, said.code) == (PeerNotConnected, peer, code)


def test_a_peer_that_takes_no_connection_is_447(cable):
    connect(cable)
    [said] = hear(cable, cable.relay.server.peer_gone(cable.relay.dialed[0].connection_id))
    assert said.code == ErrorCode.CONNECTION_TIMEOUT_OR_FAILURE


def test_a_second_connection_with_the_same_peer_is_446_and_the_first_stays(cable):
    first = taken(cable)
    [said] = connect(cable)
    assert said.code == ErrorCode.CONNECTION_ALREADY_EXISTS
    assert cable.relay.closed == []
    assert bind(cable, first.connection_id) == [Bound(b"")]


def test_a_peer_that_is_silent_is_given_up_by_the_relay_and_then_by_the_client(cable):
    connect(cable)
    cable.cut = True
    said = cable.run_until(60.0)
    assert [output.code for output in said if isinstance(output, PeerNotConnected)] == [None]


def test_permitted_peers_arrive_and_others_do_not(cable):
    [relay] = [RelayedAddress(address) for address in cable.client.relayed]
    arriving = (relay, PeerAddress(PEER), 1, cable.now)
    assert hear(cable, cable.relay.server.peer_arrived(*arriving)) == []
    assert cable.do(cable.client.permit([PEER], cable.now)) == [PermissionInstalled(PEER.host)]
    [said] = hear(cable, cable.relay.server.peer_arrived(*arriving))
    assert (type(said), said.peer) == (PeerArrived, PEER)
    assert bind(cable, said.connection_id) == [Bound(b"")]


def test_an_attempt_of_a_host_that_was_never_permitted_is_not_believed(cable):
    attempt = Message(MessageClass.INDICATION, Method.CONNECTION_ATTEMPT)
    attempt.add(XOR_PEER_ADDRESS, OTHER_PEER).add(CONNECTION_ID, 7)
    assert cable.client.receive(attempt.encode(), cable.now) == []


def test_it_has_no_datagrams_and_no_channels(cable):
    for call in (lambda: cable.client.send(PEER, b"", 0.0), lambda: cable.client.bind(PEER, 0.0)):
        with pytest.raises(TypeError, match="use connect"):
            call()


def test_after_the_end_nobody_is_connected_to(cable):
    cable.client.disconnected(cable.now)
    [said] = connect(cable)
    assert said == PeerNotConnected(PEER, None, "there is no allocation")


# -- servers that misbehave ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\x0b\xff\xfc" + bytes(16), b"\x01" + bytes(40)]
)
def test_garbage_on_a_data_connection_ends_it_once(cable, garbage):
    core: ConnectionBind = cable.client.connection_bind(7)
    core.start(0.0)
    [failed] = core.receive(garbage, 0.0)
    assert (type(failed), failed.code) == (NotBound, None)
    assert core.receive(garbage, 0.0) == []
    assert core.next_deadline() is None


def test_a_forged_success_binds_nothing(cable):
    said = taken(cable)
    core = cable.client.connection_bind(said.connection_id)
    [request] = core.start(cable.now)
    forged = Message.success_to(Message.decode(request.data)).encode(b"k" * 16)
    [failed] = core.receive(forged, cable.now)
    assert failed == NotBound(None, "the answer was forged")


def test_a_server_that_never_answers_the_bind(cable):
    core = cable.client.connection_bind(7)
    core.start(0.0)
    deadline = core.next_deadline()
    assert deadline is not None
    assert core.handle_timeout(deadline) == [NotBound(None, "the server does not answer")]
