"""Whose datagram is it, by the first bytes (RFC 7983, RFC 9443)."""

import pytest
from stunwire import Message, MessageClass, Method, Protocol, classify, is_channel_data, is_stun

BINDING = Message(MessageClass.REQUEST, Method.BINDING, b"twelve bytes").encode()


@pytest.mark.parametrize(
    ("low", "high", "protocol"),
    [
        (0, 3, Protocol.STUN),
        (4, 15, Protocol.NONE),
        (16, 19, Protocol.ZRTP),
        (20, 63, Protocol.DTLS),
        (64, 79, Protocol.TURN_CHANNEL),
        (80, 127, Protocol.QUIC),
        (128, 191, Protocol.RTP),
        (192, 255, Protocol.QUIC),
    ],
)
def test_ranges_of_rfc_9443(low, high, protocol):
    assert {classify(first_byte) for first_byte in range(low, high + 1)} == {protocol}


def test_every_byte_has_an_answer():
    assert all(isinstance(classify(first_byte), Protocol) for first_byte in range(256))
    with pytest.raises(IndexError):
        classify(256)


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview])
def test_stun(container):
    assert is_stun(container(BINDING))
    assert not is_channel_data(container(BINDING))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BINDING[:19],
        b"\x40" + BINDING[1:],
        BINDING[:3] + b"\x01" + BINDING[4:],
        BINDING[:4] + b"\x21\x12\xa4\x43" + BINDING[8:],
    ],
)
def test_not_stun(data):
    assert not is_stun(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"\x3f", False),
        (b"\x40", True),
        (b"\x4f\xff", True),
        (b"\x50", False),
        (b"\xc0", False),
    ],
)
def test_channel_data(data, expected):
    assert is_channel_data(data) is expected
    assert is_channel_data(memoryview(data)) is expected
