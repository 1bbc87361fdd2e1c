"""Values on the wire: exact bytes both ways, and what is refused with which words."""

import struct

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    ALTERNATE_DOMAIN,
    ALTERNATE_SERVER,
    CACHE_TIMEOUT,
    CHANGE_REQUEST,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DONT_FRAGMENT,
    ERROR_CODE,
    EVEN_PORT,
    ICE_CONTROLLED,
    ICMP,
    LIFETIME,
    MAPPED_ADDRESS,
    MOBILITY_TICKET,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    RESPONSE_PORT,
    SOFTWARE,
    TRANSACTION_TRANSMIT_COUNTER,
    UNKNOWN_ATTRIBUTES,
    USE_CANDIDATE,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    AddressErrorValue,
    AddressFamily,
    ChangeRequest,
    DecodeError,
    ErrorValue,
    IcmpValue,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithmValue,
    TransmitCounter,
    TransportAddress,
)

TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
IPV6 = TransportAddress("2001:db8:1234:5678:11:2233:4455:6677", 32853)
MD5, SHA256 = PasswordAlgorithmValue(1), PasswordAlgorithmValue(2)


def wire(attribute, value):
    message = Message(MessageClass.REQUEST, Method.BINDING, TRANSACTION_ID).add(attribute, value)
    data = message.encode()[20:]
    attribute_type, size = struct.unpack_from("!HH", data)
    assert attribute_type == attribute.type
    assert len(data) == 4 + size + -size % 4
    assert not any(data[4 + size :])  # padding is sent as zero
    return data[4 : 4 + size].hex()


def read(attribute, value):
    value = bytes.fromhex(value)
    body = struct.pack("!HH", attribute.type, len(value)) + value + bytes(-len(value) % 4)
    header = struct.pack("!HHI12s", 0x0001, len(body), 0x2112A442, TRANSACTION_ID)
    return Message.decode(header + body).get(attribute)


BOTH_WAYS = [
    (MAPPED_ADDRESS, TransportAddress("192.0.2.1", 32853), "00018055c0000201"),
    (MAPPED_ADDRESS, IPV6, "0002805520010db81234567800112233 44556677"),
    (XOR_MAPPED_ADDRESS, TransportAddress("192.0.2.1", 32853), "0001a147e112a643"),
    (XOR_MAPPED_ADDRESS, IPV6, "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"),
    (XOR_PEER_ADDRESS, TransportAddress("0.0.0.0", 0), "000121122112a442"),
    (ALTERNATE_SERVER, TransportAddress("::1", 3478), "00020d96" + "00" * 15 + "01"),
    (CHANGE_REQUEST, ChangeRequest(True, False), "00000004"),
    (CHANGE_REQUEST, ChangeRequest(False, True), "00000002"),
    (CHANGE_REQUEST, ChangeRequest(True, True), "00000006"),
    (CHANGE_REQUEST, ChangeRequest(False, False), "00000000"),
    (USERNAME, "", ""),
    (USERNAME, "マトリックス", "e3839ee38388e383aae38383e382afe382b9"),
    (ERROR_CODE, ErrorValue(300, ""), "00000300"),
    (ERROR_CODE, ErrorValue(401, "Unauthenticated"), "00000401" + b"Unauthenticated".hex()),
    (ERROR_CODE, ErrorValue(699, "é"), "00000663c3a9"),
    (UNKNOWN_ATTRIBUTES, (), ""),
    (UNKNOWN_ATTRIBUTES, (0x7F00,), "7f00"),
    (UNKNOWN_ATTRIBUTES, (0x0002, 0x7FFF, 0), "00027fff0000"),
    (CHANNEL_NUMBER, 0x4001, "40010000"),
    (CHANNEL_NUMBER, 0xFFFF, "ffff0000"),  # out of range, for the server to refuse with 400
    (LIFETIME, 0xFFFFFFFF, "ffffffff"),
    (REQUESTED_ADDRESS_FAMILY, 1, "01000000"),
    (REQUESTED_ADDRESS_FAMILY, 255, "ff000000"),  # unknown family, for the server to refuse with 440
    (ADDITIONAL_ADDRESS_FAMILY, 2, "02000000"),
    (EVEN_PORT, True, "80"),
    (EVEN_PORT, False, "00"),
    (REQUESTED_TRANSPORT, 17, "11000000"),
    (REQUESTED_TRANSPORT, 6, "06000000"),
    (DONT_FRAGMENT, True, ""),
    (USE_CANDIDATE, True, ""),
    (PASSWORD_ALGORITHM, SHA256, "00020000"),
    (PASSWORD_ALGORITHM, PasswordAlgorithmValue(9, b"abcde"), "00090005" + b"abcde".hex() + "000000"),
    (PASSWORD_ALGORITHMS, (), ""),
    (PASSWORD_ALGORITHMS, (SHA256, MD5), "0002000000010000"),
    (PASSWORD_ALGORITHMS, (PasswordAlgorithmValue(9, b"a"), MD5), "000900016100000000010000"),
    (RESERVATION_TOKEN, b"12345678", b"12345678".hex()),
    (USERHASH, bytes(range(32)), bytes(range(32)).hex()),
    (RESPONSE_PORT, 3478, "0d960000"),
    (CONNECTION_ID, 0x12345678, "12345678"),
    (ADDRESS_ERROR_CODE, AddressErrorValue(2, 440, "no"), "020004286e6f"),
    (ALTERNATE_DOMAIN, "example.org", b"example.org".hex()),
    (ICMP, IcmpValue(3, 4, b"\0\0\5\xdc"), "00000604000005dc"),
    (ICMP, IcmpValue(127, 511, bytes(4)), "0000ffff00000000"),
    (TRANSACTION_TRANSMIT_COUNTER, TransmitCounter(3, 1), "00000301"),
    (CACHE_TIMEOUT, 60, "0000003c"),
    (ICE_CONTROLLED, 0x932FF9B151263B36, "932ff9b151263b36"),
    (MOBILITY_TICKET, b"", ""),
    (MOBILITY_TICKET, b"ticket", b"ticket".hex()),
]


@pytest.mark.parametrize(("attribute", "value", "expected"), BOTH_WAYS)
def test_both_ways(attribute, value, expected):
    expected = expected.replace(" ", "")
    assert wire(attribute, value) == expected
    assert read(attribute, expected) == value
    assert type(read(attribute, expected)) is type(value)


@pytest.mark.parametrize(
    ("attribute", "received", "value"),
    [
        # Reserved bits and bytes are not looked at.
        (MAPPED_ADDRESS, "ff018055c0000201", TransportAddress("192.0.2.1", 32853)),
        (ERROR_CODE, "fffffc01", ErrorValue(401, "")),
        (CHANNEL_NUMBER, "4001ffff", 0x4001),
        (REQUESTED_TRANSPORT, "11ffffff", 17),
        (REQUESTED_ADDRESS_FAMILY, "02ffffff", AddressFamily.IPV6),
        (EVEN_PORT, "7f", False),
        (EVEN_PORT, "ff", True),
        (CHANGE_REQUEST, "fffffff9", ChangeRequest(False, False)),
        (ADDRESS_ERROR_CODE, "01fffd08", AddressErrorValue(1, 508, "")),
        (ICMP, "ffff000000000000", IcmpValue(0, 0, bytes(4))),
        (TRANSACTION_TRANSMIT_COUNTER, "ffff0101", TransmitCounter(1, 1)),
        # The two lengths of RESPONSE-PORT that are in use, and parameters without their last padding.
        (RESPONSE_PORT, "0d96", 3478),
        (PASSWORD_ALGORITHM, "0009000161", PasswordAlgorithmValue(9, b"a")),
        (PASSWORD_ALGORITHM, "0009000161ffffff", PasswordAlgorithmValue(9, b"a")),
        # Sent with fewer than 509 bytes, received with up to 763 (RFC 8489 section 14.3).
        (USERNAME, "61" * 763, "a" * 763),
        (SOFTWARE, "61" * 763, "a" * 763),
        (SOFTWARE, "6100", "a\0"),
        (ALTERNATE_DOMAIN, "61" * 255, "a" * 255),
    ],
)
def test_lenient_where_the_rfc_is(attribute, received, value):
    assert read(attribute, received) == value


@pytest.mark.parametrize(
    ("attribute", "received", "reason"),
    [
        (MAPPED_ADDRESS, "", "0 bytes"),
        (MAPPED_ADDRESS, "0001", "2 bytes"),
        (MAPPED_ADDRESS, "00018055c00002", "7 bytes do not fit address family 1"),
        (MAPPED_ADDRESS, "00018055c000020100", "9 bytes do not fit address family 1"),
        (XOR_PEER_ADDRESS, "00028055c0000201", "8 bytes do not fit address family 2"),
        (XOR_PEER_ADDRESS, "0001" + "00" * 18, "20 bytes do not fit address family 1"),
        (XOR_PEER_ADDRESS, "0003" + "00" * 6, "unknown address family 3"),
        (XOR_PEER_ADDRESS, "0000" + "00" * 18, "unknown address family 0"),
        (USERNAME, "61" * 764, "764 bytes, at most 763"),
        (USERNAME, "61ff", "not UTF-8 at byte 1"),
        (USERNAME, "c0af", "not UTF-8 at byte 0"),
        (USERNAME, "eda080", "not UTF-8 at byte 0"),
        (USERNAME, "e383", "not UTF-8"),
        (REALM, "61" * 764, "764 bytes"),
        (NONCE, "f8808080", "not UTF-8"),
        (SOFTWARE, "61" * 764, "764 bytes"),
        (ALTERNATE_DOMAIN, "61" * 256, "256 bytes, at most 255"),
        (ERROR_CODE, "", "0 bytes"),
        (ERROR_CODE, "000004", "3 bytes"),
        (ERROR_CODE, "00000000", "class 0"),
        (ERROR_CODE, "00000200", "class 2"),
        (ERROR_CODE, "00000700", "class 7"),
        (ERROR_CODE, "00000464", "number 100"),
        (ERROR_CODE, "000004ff", "number 255"),
        (ERROR_CODE, "00000401ff", "not UTF-8"),
        (ERROR_CODE, "00000401" + "61" * 764, "764 bytes"),
        (ADDRESS_ERROR_CODE, "010004", "3 bytes"),
        (ADDRESS_ERROR_CODE, "01000228", "class 2"),
        (ADDRESS_ERROR_CODE, "01000464", "number 100"),
        (UNKNOWN_ATTRIBUTES, "00", "1 bytes"),
        (UNKNOWN_ATTRIBUTES, "000100", "3 bytes"),
        (CHANNEL_NUMBER, "4001", "2 bytes instead of 4"),
        (LIFETIME, "", "0 bytes instead of 4"),
        (LIFETIME, "0000000000", "5 bytes instead of 4"),
        (REQUESTED_TRANSPORT, "11", "1 bytes instead of 4"),
        (REQUESTED_ADDRESS_FAMILY, "0100", "2 bytes instead of 4"),
        (EVEN_PORT, "", "0 bytes instead of 1"),
        (EVEN_PORT, "80000000", "4 bytes instead of 1"),
        (DONT_FRAGMENT, "00", "1 bytes instead of 0"),
        (USE_CANDIDATE, "00000000", "4 bytes instead of 0"),
        (PASSWORD_ALGORITHM, "", "0 algorithms"),
        (PASSWORD_ALGORITHM, "0002", "cut off"),
        (PASSWORD_ALGORITHM, "0002000000010000", "2 algorithms"),
        (PASSWORD_ALGORITHM, "00020001", "past the end"),
        (PASSWORD_ALGORITHMS, "000200", "cut off"),
        (PASSWORD_ALGORITHMS, "00020000000100", "cut off"),
        (PASSWORD_ALGORITHMS, "0002000000010004", "past the end"),
        (PASSWORD_ALGORITHMS, "0002ffff00010000", "past the end"),
        (PASSWORD_ALGORITHMS, "000200016100", None),
        (PASSWORD_ALGORITHMS, "00020001610000000001", "cut off"),
        (RESERVATION_TOKEN, "00" * 7, "7 bytes instead of 8"),
        (USERHASH, "00" * 31, "31 bytes instead of 32"),
        (RESPONSE_PORT, "0d", "1 bytes"),
        (RESPONSE_PORT, "0d9600", "3 bytes"),
        (CONNECTION_ID, "00", "1 bytes"),
        (ICMP, "0000060400", "5 bytes"),
        (CHANGE_REQUEST, "00", "1 bytes"),
        (TRANSACTION_TRANSMIT_COUNTER, "0301", "2 bytes"),
        (ICE_CONTROLLED, "00000000", "4 bytes instead of 8"),
    ],
)
def test_refused(attribute, received, reason):
    if reason is None:
        read(attribute, received)
        return
    with pytest.raises(DecodeError) as caught:
        read(attribute, received)
    assert caught.value.place == attribute.name
    assert reason in caught.value.reason
    assert caught.value.header is not None


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        (RESERVATION_TOKEN, b"short"),
        (USERHASH, bytes(31)),
        (EVEN_PORT, None),
        (ICMP, IcmpValue(128, 0)),
        (ICMP, IcmpValue(0, 512)),
        (ICMP, IcmpValue(0, 0, b"")),
        (PASSWORD_ALGORITHM, PasswordAlgorithmValue(1 << 16)),
        (PASSWORD_ALGORITHM, PasswordAlgorithmValue(1, bytes(1 << 16))),
        (UNKNOWN_ATTRIBUTES, (1 << 16,)),
        (ADDRESS_ERROR_CODE, AddressErrorValue(256, 440, "")),
        (TRANSACTION_TRANSMIT_COUNTER, TransmitCounter(256, 0)),
    ],
)
def test_refused_before_sending(attribute, value):
    with pytest.raises((ValueError, TypeError), match=f"^{attribute.name}: "):
        wire(attribute, value)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_hosts_come_back_canonical(written, canonical):
    for attribute in (MAPPED_ADDRESS, XOR_PEER_ADDRESS):
        assert read(attribute, wire(attribute, TransportAddress(written, 1))).host == canonical


@pytest.mark.parametrize("buffer", [bytearray(b"12345678"), memoryview(b"12345678")])
def test_bytes_may_be_any_buffer(buffer):
    assert wire(RESERVATION_TOKEN, buffer) == b"12345678".hex()
