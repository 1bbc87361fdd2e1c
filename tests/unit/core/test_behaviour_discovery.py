"""NAT behaviour discovery (RFC 5780 sections 6 and 7): who answers, where to, and what is refused."""

import pytest
from stunwire import (
    CHANGE_REQUEST,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    Attribute,
    ChangeRequest,
    Method,
    TransportAddress,
)
from turnrelay.core.addresses import ServerAddress
from turnrelay.core.behaviour_discovery import ServerAddresses
from turnrelay.core.events import RequestAnswered, Throttle, Throttled
from unit.core.turn_client import HERE, STREAM, accepted, answer, bare, refused, reply

A1, A2, P1, P2 = "192.0.2.1", "192.0.2.2", 3478, 3479
ADDRESSES = ServerAddresses(primary=A1, alternate=A2, port=P1, alternate_port=P2, advertised={})
UNKNOWN = Attribute.opaque(0x7F00, "?"), b""


@pytest.fixture
def world(new_world):
    return new_world(discovery=ADDRESSES)


def asked_at(host, port, path=HERE):
    """The 5-tuple of a client that writes to one of the four addresses."""
    return path._replace(server=ServerAddress(TransportAddress(host, port)))


def other(host, port):
    """Both the other host and the other port."""
    return {A1: A2, A2: A1}[host], {P1: P2, P2: P1}[port]


@pytest.mark.parametrize("host", [A1, A2])
@pytest.mark.parametrize("port", [P1, P2])
def test_the_answer_tells_where_it_comes_from_and_which_the_other_address_is(world, host, port):
    path = asked_at(host, port)
    outputs = world.deliver(bare(Method.BINDING), path, 0)
    message = accepted(outputs)
    assert RequestAnswered(Method.BINDING, 0, path.transport) in outputs
    assert reply(outputs).path == path
    assert message.get(XOR_MAPPED_ADDRESS) == message.get(MAPPED_ADDRESS) == HERE.client
    assert message.get(RESPONSE_ORIGIN) == (host, port)
    assert message.get(OTHER_ADDRESS) == other(host, port)


@pytest.mark.parametrize("host", [A1, A2])
@pytest.mark.parametrize("port", [P1, P2])
@pytest.mark.parametrize(
    ("change_ip", "change_port"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_change_request_chooses_the_source(world, host, port, change_ip, change_port):
    """Section 6.1, table 1."""
    change = CHANGE_REQUEST, ChangeRequest(change_ip, change_port)
    outputs = world.deliver(bare(Method.BINDING, change), asked_at(host, port), 0)
    other_host, other_port = other(host, port)
    source = (other_host if change_ip else host, other_port if change_port else port)
    assert reply(outputs).path == asked_at(*source)
    message = accepted(outputs)
    assert message.get(RESPONSE_ORIGIN) == source
    # Section 7.4: where both would be changed to, whatever was changed.
    assert message.get(OTHER_ADDRESS) == other(host, port)


def test_clients_are_told_external_addresses(new_world):
    advertised = {A1: "203.0.113.1", A2: "203.0.113.2"}
    addresses = ServerAddresses(primary=A1, alternate=A2, port=P1, alternate_port=P2, advertised=advertised)
    outputs = new_world(discovery=addresses).deliver(bare(Method.BINDING), asked_at(A1, P1), 0)
    message = accepted(outputs)
    assert reply(outputs).path == asked_at(A1, P1)
    assert message.get(RESPONSE_ORIGIN) == ("203.0.113.1", P1)
    assert message.get(OTHER_ADDRESS) == ("203.0.113.2", P2)


@pytest.mark.parametrize("port", [1, 40001, 65535])
def test_response_port_chooses_the_port_and_never_the_host(world, port):
    """Section 7.5: to the source IP address of the request and the port in the attribute."""
    outputs = world.deliver(bare(Method.BINDING, (RESPONSE_PORT, port)), asked_at(A1, P1), 0)
    assert reply(outputs).path.client == (HERE.client.host, port)
    assert reply(outputs).path.server == (A1, P1)
    assert accepted(outputs).get(XOR_MAPPED_ADDRESS) == HERE.client


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (4, 4), (1000, 1000), (1500, 1500), (9000, 1500)])
def test_padding_is_no_more_than_was_sent(world, asked, given):
    """Section 7.6. A padded answer is no amplifier: the request was as long."""
    request = bare(Method.BINDING, (PADDING, bytes(asked)))
    outputs = world.deliver(request, asked_at(A1, P1), 0)
    assert len(accepted(outputs).get(PADDING)) == given
    assert len(reply(outputs).data) <= len(request) + 48


def test_padding_with_response_port_is_not_processed(world):
    """Section 7.5: a request with RESPONSE-PORT and PADDING MUST NOT be processed."""
    request = bare(Method.BINDING, (PADDING, bytes(100)), (RESPONSE_PORT, 53))
    outputs = world.deliver(request, asked_at(A1, P1), 0)
    assert reply(outputs).path.client == HERE.client
    assert refused(outputs) == 400


@pytest.mark.parametrize("extra", [(CHANGE_REQUEST, ChangeRequest(True, True)), (RESPONSE_PORT, 53)])
def test_errors_go_back_where_the_request_came_from(world, extra):
    path = asked_at(A1, P1)
    outputs = world.deliver(bare(Method.BINDING, extra, UNKNOWN), path, 0)
    assert refused(outputs) == 420
    assert answer(outputs).get(UNKNOWN_ATTRIBUTES) == (0x7F00,)
    assert reply(outputs).path == path


@pytest.mark.parametrize("extra", [(CHANGE_REQUEST, ChangeRequest(True, True)), (RESPONSE_PORT, 53)])
def test_a_stream_answers_on_the_stream(world, extra):
    path = asked_at(A1, P1, STREAM)
    assert reply(world.deliver(bare(Method.BINDING, extra), path, 0)).path == path


@pytest.mark.parametrize(("host", "port"), [("192.0.2.3", P1), (A1, 5349), ("2001:db8::1", P1)])
def test_other_addresses_of_the_server_take_no_part(world, host, port):
    path = asked_at(host, port)
    assert len(reply(world.deliver(bare(Method.BINDING), path, 0)).data) == 32
    change = CHANGE_REQUEST, ChangeRequest(True, True)
    assert refused(world.deliver(bare(Method.BINDING, change), path, 0)) == 420


def test_each_answer_is_paid_from_the_rate_of_its_source(world):
    path = asked_at(A1, P1)
    world.rate_limit.left = 0
    request = bare(Method.BINDING, (CHANGE_REQUEST, ChangeRequest(True, True)), (RESPONSE_PORT, 53))
    assert world.deliver(request, path, 0) == [Throttled(path, Throttle.UNAUTHENTICATED)]


def test_the_attributes_mean_nothing_to_other_methods(world):
    """They belong to Binding: an Allocate with one of them is refused like any unknown attribute."""
    client = world.client(asked_at(A1, P1))
    assert refused(client.allocate((CHANGE_REQUEST, ChangeRequest(False, True)))) == 420
    assert refused(client.allocate((RESPONSE_PORT, 53))) == 420
