"""Messages: building, the strict pass of the decoder, integrity, fingerprint, who is at fault."""

import hmac
import struct

import pytest
from stunwire import (
    CHANNEL_NUMBER,
    DATA,
    DONT_FRAGMENT,
    ERROR_CODE,
    FINGERPRINT,
    LIFETIME,
    MAGIC_COOKIE,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PRIORITY,
    REALM,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    Attribute,
    DecodeError,
    ErrorCode,
    ErrorValue,
    Header,
    Integrity,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from stunwire.integrity import fingerprint_of

TRANSACTION_ID = bytes(range(12))
KEY = b"sixteen byte key"
TOO_MANY = "attributes: more than 64"
UNKNOWN_REQUIRED = Attribute.opaque(0x7F00, "unknown")
UNKNOWN_OPTIONAL = Attribute.opaque(0xFF00, "unknown")


def allocate() -> Message:
    return Message(MessageClass.REQUEST, Method.ALLOCATE, TRANSACTION_ID)


def tlv(attribute_type: int, value: bytes, padding: bytes = b"\0\0\0") -> bytes:
    return struct.pack("!HH", attribute_type, len(value)) + value + padding[: -len(value) % 4]


def raw(*tlvs: bytes, message_type: int = 0x0003, length: int | None = None) -> bytes:
    body = b"".join(tlvs)
    length = len(body) if length is None else length
    return struct.pack("!HHI12s", message_type, length, MAGIC_COOKIE, TRANSACTION_ID) + body


def fingerprinted(data: bytes) -> bytes:
    covered = data[:2] + struct.pack("!H", len(data) - 20 + 8) + data[4:]
    return covered + tlv(FINGERPRINT.type, struct.pack("!I", fingerprint_of(covered)))


class TestBuilding:
    def test_attributes_keep_their_order(self):
        message = allocate().add(LIFETIME, 600).add(DONT_FRAGMENT, True).add(REQUESTED_TRANSPORT, 17)
        assert message.attributes == [
            (LIFETIME.type, 600),
            (DONT_FRAGMENT.type, True),
            (REQUESTED_TRANSPORT.type, 17),
        ]
        assert Message.decode(message.encode()).attributes == message.attributes

    def test_exact_bytes(self):
        data = allocate().add(REQUESTED_TRANSPORT, 17).add(SOFTWARE, "abcde").encode()
        assert data.hex() == (
            "000300142112a442000102030405060708090a0b"  # Allocate request, 20 bytes of attributes
            "0019000411000000"
            "802200056162636465000000"
        )

    def test_transaction_ids_are_random(self):
        ids = {Message(MessageClass.REQUEST, Method.BINDING).transaction_id for _ in range(100)}
        assert len(ids) == 100
        assert {len(transaction_id) for transaction_id in ids} == {12}

    def test_contains_and_get(self):
        message = allocate().add(LIFETIME, 0)
        assert LIFETIME in message
        assert message.get(LIFETIME) == 0
        assert SOFTWARE not in message
        assert message.get(SOFTWARE) is None
        assert message.get_all(SOFTWARE) == []

    def test_first_of_duplicates_counts(self):
        peers = [TransportAddress("192.0.2.1", 1), TransportAddress("2001:db8::1", 2)]
        message = allocate()
        for peer in peers:
            message.add(XOR_PEER_ADDRESS, peer)
        for candidate in (message, Message.decode(message.encode())):
            assert candidate.get(XOR_PEER_ADDRESS) == peers[0]
            assert candidate.get_all(XOR_PEER_ADDRESS) == peers

    def test_answers_copy_method_and_transaction(self):
        request = allocate()
        header = Header(MessageClass.REQUEST, Method.ALLOCATE, TRANSACTION_ID)
        for source in (request, header):
            success = Message.success_to(source)
            assert success.message_class is MessageClass.SUCCESS_RESPONSE
            assert (success.method, success.transaction_id) == (Method.ALLOCATE, TRANSACTION_ID)
            error = Message.error_to(source, ErrorCode.FORBIDDEN)
            assert error.message_class is MessageClass.ERROR_RESPONSE
            assert (error.method, error.transaction_id) == (Method.ALLOCATE, TRANSACTION_ID)

    @pytest.mark.parametrize(
        ("code", "reason", "phrase"),
        [
            (ErrorCode.STALE_NONCE, None, "Stale Nonce"),
            (438, None, "Stale Nonce"),
            (ErrorCode.STALE_NONCE, "", ""),
            (ErrorCode.STALE_NONCE, "too old", "too old"),
            (699, None, ""),
        ],
    )
    def test_error_phrase(self, code, reason, phrase):
        error = Message.decode(Message.error_to(allocate(), code, reason).encode())
        assert error.get(ERROR_CODE) == ErrorValue(int(code), phrase)

    def test_repr_shows_no_values(self):
        message = allocate().add(USERNAME, "alice").add(UNKNOWN_OPTIONAL, b"secret")
        assert repr(message) == "<Message REQUEST 0x003 000102030405060708090a0b [USERNAME, 0xFF00]>"

    def test_received_message_can_be_added_to(self):
        received = Message.decode(allocate().add(LIFETIME, 1).add(UNKNOWN_OPTIONAL, b"abc").encode(KEY))
        extended = Message.decode(received.add(SOFTWARE, "x").encode())
        assert extended.attributes == [(LIFETIME.type, 1), (0xFF00, b"abc"), (SOFTWARE.type, "x")]
        assert extended.integrity is None

    def test_sixteen_bits_of_length(self):
        full = allocate().add(DATA, bytes(65_528))
        assert len(full.encode()) == 20 + 65_532
        assert Message.decode(full.encode()).get(DATA) == bytes(65_528)
        with pytest.raises(ValueError, match="at most 65535"):
            full.encode(KEY)
        with pytest.raises(ValueError, match="at most 65535"):
            full.encode(fingerprint=True)
        with pytest.raises(ValueError, match="DATA: 65536 bytes"):
            allocate().add(DATA, bytes(65_536))


class TestMisuse:
    @pytest.mark.parametrize(
        ("attribute", "value", "error"),
        [
            (LIFETIME, -1, ValueError),
            (LIFETIME, 1 << 32, ValueError),
            (LIFETIME, "600", ValueError),
            (CHANNEL_NUMBER, 1 << 16, ValueError),
            (REQUESTED_TRANSPORT, 256, ValueError),
            (USERNAME, "x" * 509, ValueError),
            (USERNAME, "é" * 255, ValueError),
            (REALM, "x" * 764, ValueError),
            (SOFTWARE, "\ud800", ValueError),
            (SOFTWARE, 5, TypeError),
            (SOFTWARE, None, TypeError),
            (DONT_FRAGMENT, False, ValueError),
            (DATA, 5, TypeError),
            (DATA, "text", TypeError),
            (XOR_PEER_ADDRESS, ("example.org", 1), ValueError),
            (XOR_PEER_ADDRESS, ("192.0.2.1", 65536), ValueError),
            (XOR_PEER_ADDRESS, ("2001:db8::zz", 1), ValueError),
            (XOR_PEER_ADDRESS, (b"192.0.2.1", 1), TypeError),
            (XOR_PEER_ADDRESS, 5, TypeError),
            (ERROR_CODE, ErrorValue(200, "OK"), ValueError),
            (ERROR_CODE, ErrorValue(700, ""), ValueError),
            (ERROR_CODE, 400, TypeError),
        ],
    )
    def test_bad_values_name_the_attribute(self, attribute, value, error):
        with pytest.raises(error, match=f"^{attribute.name}: ") as caught:
            allocate().add(attribute, value)
        assert not isinstance(caught.value, DecodeError)

    def test_refused_value_leaves_no_trace(self):
        message = allocate()
        with pytest.raises(ValueError):
            message.add(LIFETIME, -1)
        assert message.attributes == []
        assert message.encode() == allocate().encode()

    @pytest.mark.parametrize("attribute", [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT])
    def test_seals_are_not_added(self, attribute):
        with pytest.raises(ValueError, match=f"{attribute.name} is written by encode"):
            allocate().add(attribute, bytes(32))

    @pytest.mark.parametrize("size", [0, 11, 13])
    def test_size_of_transaction_id(self, size):
        with pytest.raises(ValueError, match="transaction ID"):
            Message(MessageClass.REQUEST, Method.BINDING, bytes(size))

    @pytest.mark.parametrize("method", [-1, 0x1000])
    def test_size_of_method(self, method):
        with pytest.raises(ValueError, match="method"):
            Message(MessageClass.REQUEST, method)


class TestFraming:
    """Not soundly framed: `header` is None, nothing is answered."""

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (b"", "header: 0 bytes"),
            (raw()[:19], "header: 19 bytes"),
            (raw(message_type=0x4003), "header: the top two bits"),
            (raw(message_type=0x8003), "header: the top two bits"),
            (raw(message_type=0xC003), "header: the top two bits"),
            (raw()[:4] + b"\x21\x12\xa4\x43" + TRANSACTION_ID, "header: no magic cookie"),
            (raw(b"\0\0"), "header: length 2"),
            (raw(b"\0\0\0"), "header: length 3"),
            (raw(length=4), "header: length 4"),
            (raw(tlv(0x8022, b""), length=0), "header: length 0"),
            (raw(b"\x00\x0d\x00\x05" + bytes(4)), "attributes: LIFETIME reaches past"),
            (raw(b"\xff\x00\xff\xff"), "attributes: 0xFF00 reaches past"),
            (raw(tlv(0x0013, b""), b"\x00\x13\x00\x01"), "attributes: DATA reaches past"),
            (raw(*[tlv(0xFF00, b"")] * 65), TOO_MANY),
            (raw(tlv(0x8028, b"")), "FINGERPRINT: 0 bytes"),
            (raw(tlv(0x8028, bytes(8))), "FINGERPRINT: 8 bytes"),
            (raw(tlv(0x8028, bytes(4))), "FINGERPRINT: does not match"),
            (fingerprinted(raw()) + b"", None),
        ],
    )
    def test_table(self, data, complaint):
        if complaint is None:
            Message.decode(data)
            return
        with pytest.raises(DecodeError) as caught:
            Message.decode(data)
        assert str(caught.value).startswith(complaint)
        # Only what is too much, and not wrong, tells whose request it was.
        assert (caught.value.header is None) is (complaint != TOO_MANY)
        assert str(caught.value) == f"{caught.value.place}: {caught.value.reason}"

    def test_64_attributes_are_enough(self):
        assert len(Message.decode(raw(*[tlv(0xFF00, b"")] * 64)).attributes) == 64

    def test_padding_beyond_the_end_is_impossible(self):
        # Length 5 would need 3 bytes of padding, and the total is a multiple of 4 without them.
        with pytest.raises(DecodeError, match="reaches past"):
            Message.decode(raw(b"\x80\x22\x00\x05abcd"))

    def test_padding_may_be_anything(self):
        message = Message.decode(raw(tlv(SOFTWARE.type, b"a", b"\xff\x01\x02"), tlv(LIFETIME.type, bytes(4))))
        assert message.attributes == [(SOFTWARE.type, "a"), (LIFETIME.type, 0)]

    def test_unknown_method_and_every_class(self):
        for message_class in MessageClass:
            data = Message(message_class, 0xFFF, TRANSACTION_ID).encode()
            message = Message.decode(data)
            assert (message.message_class, message.method) == (message_class, 0xFFF)

    def test_zero_length_attributes(self):
        message = Message.decode(
            raw(tlv(DATA.type, b""), tlv(SOFTWARE.type, b""), tlv(DONT_FRAGMENT.type, b""))
        )
        assert message.get(DATA) == b""
        assert message.get(SOFTWARE) == ""
        assert message.get(DONT_FRAGMENT) is True


class TestBadValues:
    """Soundly framed with a bad value: `header` is there, so that a server can answer 400."""

    def test_header_is_told(self):
        with pytest.raises(DecodeError, match=r"^LIFETIME: 3 bytes instead of 4") as caught:
            Message.decode(raw(tlv(LIFETIME.type, b"abc")))
        assert caught.value.header == Header(MessageClass.REQUEST, Method.ALLOCATE, TRANSACTION_ID)
        reply = Message.error_to(caught.value.header, ErrorCode.BAD_REQUEST)
        assert reply.transaction_id == TRANSACTION_ID

    def test_first_bad_value_is_named(self):
        with pytest.raises(DecodeError, match=r"^REQUESTED-TRANSPORT"):
            Message.decode(raw(tlv(REQUESTED_TRANSPORT.type, b""), tlv(LIFETIME.type, b"")))

    def test_broken_framing_behind_a_bad_value_wins(self):
        with pytest.raises(DecodeError, match="reaches past") as caught:
            Message.decode(raw(tlv(LIFETIME.type, b"abc"), b"\x80\x22\x00\x01"))
        assert caught.value.header is None

    def test_wrong_fingerprint_behind_a_bad_value_wins(self):
        with pytest.raises(DecodeError, match="FINGERPRINT") as caught:
            Message.decode(raw(tlv(LIFETIME.type, b"abc"), tlv(FINGERPRINT.type, bytes(4))))
        assert caught.value.header is None

    def test_right_fingerprint_behind_a_bad_value_does_not(self):
        with pytest.raises(DecodeError, match="LIFETIME") as caught:
            Message.decode(fingerprinted(raw(tlv(LIFETIME.type, b"abc"))))
        assert caught.value.header is not None

    def test_bad_duplicate_counts_too(self):
        with pytest.raises(DecodeError, match="LIFETIME"):
            Message.decode(raw(tlv(LIFETIME.type, bytes(4)), tlv(LIFETIME.type, b"abc")))


class TestUnknownAttributes:
    def test_required_ones_are_listed_once_in_order(self):
        message = Message.decode(
            raw(*(tlv(number, b"x") for number in (0x7F00, 0xFF00, 0x0002, 0x7F00, 0x7FFF, 0x8000 + 0x5)))
        )
        assert message.unknown_required == (0x7F00, 0x0002, 0x7FFF)
        assert message.get(UNKNOWN_REQUIRED) == b"x"
        assert message.get(UNKNOWN_OPTIONAL) == b"x"

    def test_known_message_has_none(self):
        assert Message.decode(allocate().add(LIFETIME, 1).encode()).unknown_required == ()


class TestIntegrity:
    SHA1, SHA256 = Integrity.SHA1, Integrity.SHA256

    @pytest.mark.parametrize("fingerprint", [False, True])
    @pytest.mark.parametrize("integrity", [SHA1, SHA256])
    def test_round_trip(self, integrity, fingerprint):
        message = Message.decode(allocate().add(SOFTWARE, "abc").encode(KEY, integrity, fingerprint))
        assert message.integrity is integrity
        assert message.has_integrity_sha1 == (integrity is self.SHA1)
        assert message.has_integrity_sha256 == (integrity is self.SHA256)
        assert message.has_fingerprint == fingerprint
        for candidate in Integrity:
            assert message.verify(KEY, candidate) == (candidate is integrity)
            assert not message.verify(b"other", candidate)

    @pytest.mark.parametrize("fingerprint", [False, True])
    def test_both(self, fingerprint):
        data = allocate().add(SOFTWARE, "abc").encode(KEY, self.SHA1 | self.SHA256, fingerprint)
        message = Message.decode(data)
        assert message.integrity is self.SHA256
        assert message.has_integrity_sha1
        assert message.has_integrity_sha256
        assert message.verify(KEY, self.SHA1)
        assert message.verify(KEY, self.SHA256)
        with pytest.raises(ValueError, match="one integrity attribute"):
            message.verify(KEY, self.SHA1 | self.SHA256)

    def test_without(self):
        message = Message.decode(allocate().encode())
        assert message.integrity is None
        assert not message.has_integrity_sha1
        assert not message.has_integrity_sha256
        assert not message.verify(KEY, self.SHA1)
        assert not message.verify(KEY, self.SHA256)

    def test_message_that_was_not_received(self):
        message = allocate()
        message.encode(KEY)
        assert message.integrity is None
        assert not message.verify(KEY, self.SHA1)

    def test_padding_as_received_is_what_counts(self):
        covered = raw(tlv(SOFTWARE.type, b"a", b"\x20\x21\x22"), length=8 + 24)
        sealed = covered + tlv(MESSAGE_INTEGRITY.type, hmac.digest(KEY, covered, "sha1"))
        assert Message.decode(sealed).verify(KEY, self.SHA1)

    @pytest.mark.parametrize("size", [16, 20, 24, 28, 32])
    def test_truncated_sha256(self, size):
        covered = raw(length=4 + size)
        sealed = covered + tlv(MESSAGE_INTEGRITY_SHA256.type, hmac.digest(KEY, covered, "sha256")[:size])
        message = Message.decode(sealed)
        assert message.verify(KEY, self.SHA256)
        assert not message.verify(b"other", self.SHA256)
        assert len(message.get(MESSAGE_INTEGRITY_SHA256)) == size

    @pytest.mark.parametrize("size", [0, 4, 12, 15, 17, 18, 33, 36])
    def test_other_sizes_of_sha256(self, size):
        with pytest.raises(DecodeError, match=r"^MESSAGE-INTEGRITY-SHA256") as caught:
            Message.decode(raw(tlv(MESSAGE_INTEGRITY_SHA256.type, bytes(size))))
        assert caught.value.header is not None

    @pytest.mark.parametrize("size", [0, 16, 19, 21, 32])
    def test_other_sizes_of_sha1(self, size):
        with pytest.raises(DecodeError, match=r"^MESSAGE-INTEGRITY:"):
            Message.decode(raw(tlv(MESSAGE_INTEGRITY.type, bytes(size))))


class TestAfterIntegrity:
    """RFC 8489 sections 14.5 and 14.6: what follows integrity is ignored, whatever it holds."""

    SHA1 = tlv(MESSAGE_INTEGRITY.type, bytes(20))
    SHA256 = tlv(MESSAGE_INTEGRITY_SHA256.type, bytes(32))
    IGNORED = (
        tlv(LIFETIME.type, bytes(4)),
        tlv(LIFETIME.type, b"bad"),
        tlv(0x7F00, b"unknown and required"),
        tlv(USERNAME.type, b"\xff"),
        tlv(MESSAGE_INTEGRITY.type, bytes(20)),
        tlv(MESSAGE_INTEGRITY.type, b"bad"),
    )

    @pytest.mark.parametrize("ignored", IGNORED)
    @pytest.mark.parametrize("seal", [SHA1, SHA256])
    def test_ignored(self, seal, ignored):
        message = Message.decode(fingerprinted(raw(seal, ignored)))
        assert [number for number, _ in message.attributes] == [
            int.from_bytes(seal[:2], "big"),
            FINGERPRINT.type,
        ]
        assert message.unknown_required == ()
        assert USERNAME not in message
        assert message.has_integrity_sha1 == (seal is self.SHA1)

    def test_sha256_after_sha1_counts(self):
        message = Message.decode(raw(self.SHA1, self.SHA256))
        assert message.has_integrity_sha1
        assert message.has_integrity_sha256

    def test_sha256_counts_even_behind_something_ignored(self):
        message = Message.decode(raw(self.SHA1, tlv(LIFETIME.type, bytes(4)), self.SHA256))
        assert message.has_integrity_sha256
        assert LIFETIME not in message

    def test_sha1_after_sha256_does_not(self):
        message = Message.decode(raw(self.SHA256, self.SHA1))
        assert not message.has_integrity_sha1

    def test_second_sha256_does_not(self):
        other = tlv(MESSAGE_INTEGRITY_SHA256.type, b"\1" * 16)
        assert Message.decode(raw(self.SHA256, other)).get(MESSAGE_INTEGRITY_SHA256) == bytes(32)

    def test_framing_is_still_checked(self):
        with pytest.raises(DecodeError, match="reaches past"):
            Message.decode(raw(self.SHA1, b"\x80\x22\x00\x01"))

    def test_ignored_ones_count_towards_the_bound(self):
        with pytest.raises(DecodeError, match="more than 64"):
            Message.decode(raw(self.SHA1, *[tlv(0xFF00, b"")] * 64))

    def test_appended_address_does_not_survive(self):
        # What an attacker on the path would add to a signed response.
        data = Message.success_to(allocate()).add(LIFETIME, 600).encode(KEY)
        forged = Message(MessageClass.SUCCESS_RESPONSE, Method.ALLOCATE, TRANSACTION_ID)
        forged.add(XOR_MAPPED_ADDRESS, TransportAddress("192.0.2.66", 1))
        longer = bytearray(data + forged.encode()[20:])
        longer[2:4] = (len(longer) - 20).to_bytes(2, "big")
        message = Message.decode(longer)
        assert message.verify(KEY, Integrity.SHA1)
        assert XOR_MAPPED_ADDRESS not in message


class TestFingerprint:
    def test_must_be_last(self):
        data = fingerprinted(raw()) + tlv(SOFTWARE.type, b"")
        data = data[:2] + struct.pack("!H", len(data) - 20) + data[4:]
        with pytest.raises(DecodeError, match="FINGERPRINT: is not the last") as caught:
            Message.decode(data)
        assert caught.value.header is None

    def test_may_be_alone(self):
        assert Message.decode(fingerprinted(raw())).has_fingerprint

    def test_covers_integrity(self):
        data = bytearray(allocate().encode(KEY, fingerprint=True))
        data[-10] ^= 1
        with pytest.raises(DecodeError, match="FINGERPRINT"):
            Message.decode(data)


def test_authenticated_allocate_request_as_a_whole():
    built = (
        allocate()
        .add(REQUESTED_TRANSPORT, 17)
        .add(USERNAME, "1893456000:alice")
        .add(REALM, "example.org")
        .add(NONCE, "obMatJos2AAAB0123")
        .add(PRIORITY, 7)
    )
    received = Message.decode(built.encode(KEY, fingerprint=True))
    assert received.attributes[:-2] == built.attributes
    assert received.verify(KEY, Integrity.SHA1)


def test_the_types_of_a_message_are_told_each_once():
    message = Message(MessageClass.REQUEST, Method.CREATE_PERMISSION)
    for port in (1, 2):
        message.add(XOR_PEER_ADDRESS, TransportAddress("192.0.2.1", port))
    received = Message.decode(message.add(REALM, "r").encode(KEY, fingerprint=True))
    assert received.types == {XOR_PEER_ADDRESS.type, REALM.type, MESSAGE_INTEGRITY.type, FINGERPRINT.type}
