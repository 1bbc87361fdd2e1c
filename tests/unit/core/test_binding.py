"""Binding (RFC 8489 sections 6.3 and 14.2): a small answer for anybody, and nothing that could be abused."""

import pytest
from stunwire import (
    CHANGE_REQUEST,
    RESPONSE_PORT,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    Attribute,
    ChangeRequest,
    Method,
)
from turnrelay.core.events import RequestAnswered, Throttle, Throttled
from unit.core.turn_client import HERE, bare, only, refused, reply, silent, tcp, tlvs, udp
from unit.core.turn_client import answer as decoded

# The transaction and the addresses of RFC 5769 sections 2.2 and 2.3.
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
V4, V6 = ("192.0.2.1", 32853), ("2001:db8:1234:5678:11:2233:4455:6677", 32853)
XOR_V4 = bytes.fromhex("0001a147e112a643")
XOR_V6 = bytes.fromhex("0002a1470113a9faa5d3f179bc25f4b5bed2b9d9")

REQUEST = bare(Method.BINDING, transaction_id=TRANSACTION)


@pytest.mark.parametrize(
    ("address", "value", "size"), [(V4, XOR_V4, 32), (V6, XOR_V6, 44)], ids=["IPv4", "IPv6"]
)
@pytest.mark.parametrize("transport", [udp, tcp])
def test_the_answer_is_the_mapped_address_and_nothing_else(world, address, value, size, transport):
    path = transport(*address)
    answer = reply(world.deliver(REQUEST, path, 0))
    assert answer.path == path
    length = (len(value) + 4).to_bytes(2, "big")
    header = b"\x01\x01" + length + b"\x21\x12\xa4\x42" + TRANSACTION
    assert answer.data == header + b"\x00\x20" + len(value).to_bytes(2, "big") + value
    assert len(answer.data) == size


def test_it_is_counted_as_a_success(world):
    [event] = only(world.deliver(REQUEST, HERE, 0), RequestAnswered)
    assert (event.method, event.code, event.transport) == (Method.BINDING, 0, HERE.transport)


def test_nobody_is_remembered(world):
    world.deliver(REQUEST, HERE, 0)
    assert world.remnants() == {}
    assert world.asked == []


def test_each_answer_is_paid_from_the_rate_of_its_source(world):
    world.rate_limit.left = 2
    assert not silent(world.deliver(REQUEST, HERE, 0))
    assert not silent(world.deliver(REQUEST, HERE, 0))
    assert world.deliver(REQUEST, HERE, 0) == [Throttled(HERE, Throttle.UNAUTHENTICATED)]
    assert world.rate_limit.asked == [HERE.client.host] * 3


def test_optional_attributes_are_ignored(world):
    request = bare(Method.BINDING, (SOFTWARE, "a client"), (Attribute.opaque(0xFF00, "?"), b"x"))
    assert len(reply(world.deliver(request, HERE, 0)).data) == 32


def test_credentials_are_ignored(world, alice):
    alice.greet(now=0)
    outputs = world.deliver(alice.form(Method.BINDING), HERE, 0)
    assert len(reply(outputs).data) == 32
    assert world.asked == []


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ([(Attribute.opaque(0x7F00, "?"), b"")], [0x7F00]),
        ([(Attribute.opaque(0x7F00, "?"), b"x"), (Attribute.opaque(0x0042, "?"), b"y")], [0x7F00, 0x0042]),
        ([(Attribute.opaque(0x7F00, "?"), b"x"), (Attribute.opaque(0x7F00, "?"), b"y")], [0x7F00]),
        ([(SOFTWARE, "a client"), (Attribute.opaque(0x7F00, "?"), b"x")], [0x7F00]),
        # RFC 5780 section 6.1: a server without a second address answers CHANGE-REQUEST with 420.
        ([(CHANGE_REQUEST, ChangeRequest(True, True))], [0x0003]),
        ([(CHANGE_REQUEST, ChangeRequest(False, False))], [0x0003]),
        # A response to a port of the client's choosing would be a reflector (RFC 5780 section 7.5).
        ([(RESPONSE_PORT, 53)], [0x0027]),
    ],
    ids=["one", "two", "twice the same", "among others", "CHANGE-REQUEST", "no change", "RESPONSE-PORT"],
)
def test_unknown_required_attributes_are_420(world, pairs, named):
    outputs = world.deliver(bare(Method.BINDING, *pairs), HERE, 0)
    assert refused(outputs) == 420
    assert decoded(outputs).get(UNKNOWN_ATTRIBUTES) == tuple(named)


def test_420_says_only_what_the_rfc_asks_for(world):
    unknown = bare(Method.BINDING, (Attribute.opaque(0x7F00, "?"), b""), transaction_id=TRANSACTION)
    data = reply(world.deliver(unknown, HERE, 0)).data
    assert data[:2] == b"\x01\x11"
    assert data[8:20] == TRANSACTION
    error, unknown_attributes = tlvs(data)
    assert error[0] == 0x0009
    assert error[1][:4] == b"\0\0\x04\x14"  # class 4, number 20
    assert unknown_attributes == (0x000A, b"\x7f\x00")


def test_420_is_paid_from_the_same_rate(world):
    world.rate_limit.left = 0
    outputs = world.deliver(bare(Method.BINDING, (CHANGE_REQUEST, ChangeRequest(True, True))), HERE, 0)
    assert outputs == [Throttled(HERE, Throttle.UNAUTHENTICATED)]


def test_many_unknown_attributes_do_not_amplify(world):
    """A byte of attribute costs four of request, and gives at most two of answer."""
    pairs = [(Attribute.opaque(0x7F00 + number, "?"), b"") for number in range(60)]
    request = bare(Method.BINDING, *pairs)
    outputs = world.deliver(request, HERE, 0)
    assert decoded(outputs).get(UNKNOWN_ATTRIBUTES) == tuple(range(0x7F00, 0x7F00 + 60))
    assert len(reply(outputs).data) < len(request)
