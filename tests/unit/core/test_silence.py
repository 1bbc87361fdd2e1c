"""What gets no answer, and what gets exactly one (RFC 8489 section 6.3): a relay that reflects nothing."""

import struct

import pytest
from stunwire import (
    CHANNEL_NUMBER,
    DATA,
    ERROR_CODE,
    EVEN_PORT,
    LIFETIME,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    USERHASH,
    USERNAME,
    XOR_PEER_ADDRESS,
    ErrorValue,
    Message,
    MessageClass,
    Method,
)
from turnrelay.core.events import Throttle, Throttled
from turnrelay.core.outputs import Reply, SendToPeer
from unit.core.turn_client import HERE, PEER, UDP, bare, only, refused, reply, seal, sealed_with, tlv, tlvs

TRANSACTION = b"twelve bytes"
SUPPORTED = (
    Method.BINDING,
    Method.ALLOCATE,
    Method.REFRESH,
    Method.CREATE_PERMISSION,
    Method.CHANNEL_BIND,
)


def raw(message_type: int, body: bytes = b"", cookie: int = 0x2112A442, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return struct.pack("!HHI", message_type, length, cookie) + TRANSACTION + body


@pytest.fixture
def with_allocation(alice):
    alice.allocate()
    alice.permit(PEER)


@pytest.mark.parametrize("method", [*Method, 0x000, 0x002, 0x005, 0x00D, 0x080, 0xFFF])
@pytest.mark.parametrize("message_class", [MessageClass.SUCCESS_RESPONSE, MessageClass.ERROR_RESPONSE])
def test_responses_are_never_answered(world, with_allocation, method, message_class):
    """Else two servers could be set to talk to each other."""
    message = Message(message_class, method, TRANSACTION)
    assert world.deliver(message.encode(), HERE, 1) == []
    assert world.deliver(message.add(ERROR_CODE, ErrorValue(401, "x")).encode(b"key"), HERE, 1) == []


@pytest.mark.parametrize("method", [*Method, 0x000, 0x002, 0x005, 0x00D, 0x080, 0xFFF])
def test_indications_are_never_answered(world, alice, with_allocation, method):
    message = Message(MessageClass.INDICATION, method, TRANSACTION)
    message.add(REQUESTED_TRANSPORT, UDP).add(LIFETIME, 0)
    assert world.deliver(message.encode(), HERE, 1) == []
    for attribute, value in alice.credentials():
        message.add(attribute, value)
    assert world.deliver(message.encode(alice.key), HERE, 1) == []
    assert len(world.plane.opened) == 1


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("message_class", MessageClass)
def test_only_a_send_indication_sends(world, with_allocation, method, message_class):
    message = Message(message_class, method).add(XOR_PEER_ADDRESS, PEER).add(DATA, b"x")
    sent = only(world.deliver(message.encode(), HERE, 1), SendToPeer)
    assert len(sent) == (method is Method.SEND and message_class is MessageClass.INDICATION)


@pytest.mark.parametrize(
    "method", [method for method in (*Method, 0x000, 0x002, 0x005, 0x00D, 0xFFF) if method not in SUPPORTED]
)
def test_requests_of_unknown_methods_are_discarded(world, alice, with_allocation, method):
    """Section 6.3: the method must be supported and its class allowed, else silence."""
    assert world.deliver(bare(method), HERE, 1) == []
    assert alice.ask(method, (XOR_PEER_ADDRESS, PEER), (DATA, b"x"), now=1) == []
    malformed = raw(0x0006 if method == Method.SEND else 0x000D, tlv(0x000D, b"?"))
    assert world.deliver(malformed, HERE, 1) == []


GARBAGE = {
    "nothing": b"",
    "a byte": b"\0",
    "zeros": bytes(20),
    "a header cut off": raw(0x0001)[:19],
    "no cookie": raw(0x0001, cookie=0x2112A443),
    "RFC 3489": raw(0x0001, cookie=0xDEADBEEF),
    "top bits": raw(0x4001),
    "top bit": raw(0x8001),
    "length too long": raw(0x0001, length=4),
    "length too short": raw(0x0001, tlv(0x8022, b"four"), length=4),
    "length odd": raw(0x0001, b"abc"),
    "attribute past the end": raw(0x0003, struct.pack("!HH", 0x0019, 8) + bytes(4)),
    "attribute header past the end": raw(0x0003, b"\0\x19"),
    "trailing byte": raw(0x0001) + b"\0",
    "ChannelData": struct.pack("!HH", 0x4000, 4) + b"data",
    "ChannelData, a bare header": struct.pack("!HH", 0x4000, 0),
    "DTLS": b"\x16\xfe\xfd" + bytes(30),
    "RTP": b"\x80\x60" + bytes(30),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "wrong fingerprint": raw(0x0001, tlv(0x8028, bytes(4))),
    "fingerprint not last": raw(0x0001, tlv(0x8028, bytes(4)) + tlv(0x8022, b"x")),
}


def test_more_attributes_than_anybody_needs_are_400(world):
    """A request that can be recognised gets an answer, so that the client knows it was too much."""
    assert refused(world.deliver(raw(0x0001, tlv(0x8022, b"") * 1000), HERE, 1)) == 400


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_not_answered(world, with_allocation, data):
    assert world.deliver(data, HERE, 1) == []


def test_every_cut_of_a_request_is_garbage(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), fingerprint=True)
    for size in range(len(request)):
        assert world.deliver(request[:size], HERE, 0) == []


def test_a_datagram_may_be_any_kind_of_bytes(world):
    for kind in (bytes, bytearray, memoryview):
        assert len(reply(world.deliver(kind(bare(Method.BINDING)), HERE, 0)).data) == 32


# -- well framed, malformed within --------------------------------------------------------------------------

MALFORMED = {
    "REQUESTED-TRANSPORT": tlv(REQUESTED_TRANSPORT.type, b"\x11"),
    "LIFETIME": tlv(LIFETIME.type, b"\0\0"),
    "CHANNEL-NUMBER": tlv(CHANNEL_NUMBER.type, b"\x40\0"),
    "XOR-PEER-ADDRESS": tlv(XOR_PEER_ADDRESS.type, b"\0\1\0"),
    "XOR-PEER-ADDRESS of no family": tlv(XOR_PEER_ADDRESS.type, b"\0\7" + bytes(6)),
    "REQUESTED-ADDRESS-FAMILY": tlv(REQUESTED_ADDRESS_FAMILY.type, b"\1"),
    "EVEN-PORT": tlv(EVEN_PORT.type, b""),
    "RESERVATION-TOKEN": tlv(RESERVATION_TOKEN.type, b"seven.."),
    "DONT-FRAGMENT": tlv(0x001A, b"\0"),
    "USERNAME": tlv(USERNAME.type, b"\xff\xfe"),
    "REALM": tlv(REALM.type, b"\xc3("),
    "NONCE": tlv(NONCE.type, b"\x80"),
    "NONCE too long": tlv(NONCE.type, b"x" * 764),
    "USERHASH": tlv(USERHASH.type, b"short"),
    "MESSAGE-INTEGRITY": tlv(0x0008, b"short"),
    "PASSWORD-ALGORITHM": tlv(PASSWORD_ALGORITHM.type, b"\0\1"),
    "PASSWORD-ALGORITHM with a long parameter": tlv(PASSWORD_ALGORITHM.type, b"\0\1\0\x08"),
    "PASSWORD-ALGORITHMS": tlv(PASSWORD_ALGORITHMS.type, b"\0\1\0"),
    "ERROR-CODE": tlv(ERROR_CODE.type, b"\0\0\x09\0"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize(("message_type", "error"), [(0x0001, 0x0111), (0x0003, 0x0113), (0x0009, 0x0119)])
def test_a_malformed_value_is_400(world, body, message_type, error):
    outputs = world.deliver(raw(message_type, body), HERE, 0)
    data = reply(outputs).data
    assert refused(outputs) == 400
    assert int.from_bytes(data[:2], "big") == error
    assert data[8:20] == TRANSACTION
    assert [kind for kind, _ in tlvs(data)] == [0x0009]
    assert len(data) <= 100


def test_of_a_known_user_as_well(world, alice, with_allocation):
    """The request cannot be trusted as a whole, so the answer names nobody."""
    unsigned = bare(Method.REFRESH, *alice.credentials())
    body = unsigned + tlv(LIFETIME.type, b"\0\0")
    data = seal(body[:2] + (len(body) - 20).to_bytes(2, "big") + body[4:], alice.key)
    outputs = world.deliver(data, HERE, 0)
    assert refused(outputs) == 400
    assert sealed_with(reply(outputs).data, alice.key) == set()
    assert len(world.plane.opened) == 1


def test_400_is_paid_from_the_rate_of_its_source(world):
    world.rate_limit.left = 0
    outputs = world.deliver(raw(0x0001, MALFORMED["LIFETIME"]), HERE, 0)
    assert outputs == [Throttled(HERE, Throttle.UNAUTHENTICATED)]


@pytest.mark.parametrize("message_type", [0x0011, 0x0016, 0x0017, 0x0101, 0x0111, 0x0113, 0x0006, 0x000A])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_value_in_anything_else_is_garbage(world, message_type, body):
    assert world.deliver(raw(message_type, body), HERE, 0) == []


def test_a_malformed_value_behind_the_seal_does_not_count(world, alice):
    """Section 14.5: what follows MESSAGE-INTEGRITY is ignored, whatever it is."""
    alice.greet(now=0)
    sealed = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP)) + tlv(LIFETIME.type, b"?")
    sealed = sealed[:2] + (len(sealed) - 20).to_bytes(2, "big") + sealed[4:]
    assert len(only(world.deliver(sealed, HERE, 0), Reply)) == 1
    assert len(world.plane.opened) == 1
