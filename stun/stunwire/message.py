"""One STUN message: build, encode, decode, verify (RFC 8489 sections 5, 6 and 14)."""

from __future__ import annotations

import struct
from collections.abc import KeysView
from hmac import compare_digest
from os import urandom
from typing import Any, TypeVar

from stunwire.attributes import (
    ATTRIBUTES,
    ERROR_CODE,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    Attribute,
)
from stunwire.error_codes import default_reason
from stunwire.errors import DecodeError
from stunwire.integrity import FINGERPRINT_SIZE, SEALS, SHA1_SEAL, SHA256_SEAL, TLV, Integrity, fingerprint_of
from stunwire.message_types import (
    HEADER_SIZE,
    MAGIC_COOKIE,
    TRANSACTION_ID_SIZE,
    Header,
    MessageClass,
    join_message_type,
    split_message_type,
)
from stunwire.values import ErrorValue

T = TypeVar("T")

# A bound on work per datagram. The longest honest message, a CreatePermission, needs one a peer.
MAX_ATTRIBUTES = 64
MAX_LENGTH = 0xFFFF

_HEADER = struct.Struct("!HHI12s")
_FINGERPRINT = struct.Struct("!HHI")
_PADDING = (b"", bytes(3), bytes(2), bytes(1))
_DECODERS = {number: attribute.decode for number, attribute in ATTRIBUTES.items()}
_SHA1, _SHA256, _FINGERPRINT_TYPE = MESSAGE_INTEGRITY.type, MESSAGE_INTEGRITY_SHA256.type, FINGERPRINT.type
_SEALING = frozenset((_SHA1, _SHA256, _FINGERPRINT_TYPE))


class Message:
    """A STUN message, either built here with `add` or received through `decode`.

    `message_class` and `method` are those of the header; an unknown method is a plain int of 12 bits.
    `transaction_id` is 12 bytes, random when None. ValueError for a method or ID of another size.

    After `decode`: `unknown_required` holds the comprehension-required types outside the table, in order,
    once each, for UNKNOWN-ATTRIBUTES; `has_integrity_sha1`, `has_integrity_sha256` and `has_fingerprint`
    say what the message carried. What follows an integrity attribute is in none of these (RFC 8489
    section 14.5): nobody vouches for it.
    """

    __slots__ = (
        "_first",
        "_pairs",
        "_received",
        "_sha1_offset",
        "_sha256_offset",
        "_tlvs",
        "has_fingerprint",
        "message_class",
        "method",
        "transaction_id",
        "unknown_required",
    )

    def __init__(self, message_class: MessageClass, method: int, transaction_id: bytes | None = None) -> None:
        if not 0 <= method <= 0xFFF:
            raise ValueError(f"method {method} does not fit 12 bits")
        if transaction_id is None:
            transaction_id = urandom(TRANSACTION_ID_SIZE)
        elif len(transaction_id) != TRANSACTION_ID_SIZE:
            raise ValueError(f"a transaction ID has 12 bytes, not {len(transaction_id)}")
        self.message_class = message_class
        self.method = method
        self.transaction_id = transaction_id
        self.unknown_required: tuple[int, ...] = ()
        self.has_fingerprint = False
        self._first: dict[int, Any] = {}
        self._pairs: list[tuple[int, Any]] = []
        # Encoded attributes, kept by `add`; None after `decode`, until somebody adds or encodes.
        self._tlvs: list[bytes] | None = []
        self._received = b""
        self._sha1_offset = 0
        self._sha256_offset = 0

    @classmethod
    def success_to(cls, request: Message | Header) -> Message:
        """An empty success response to `request`."""
        return cls(MessageClass.SUCCESS_RESPONSE, request.method, request.transaction_id)

    @classmethod
    def error_to(cls, request: Message | Header, code: int, reason: str | None = None) -> Message:
        """An error response with its ERROR-CODE. `reason` None takes the RFC's phrase, "" none at all."""
        if reason is None:
            reason = default_reason(code)
        response = cls(MessageClass.ERROR_RESPONSE, request.method, request.transaction_id)
        return response.add(ERROR_CODE, ErrorValue(code, reason))

    @property
    def attributes(self) -> list[tuple[int, Any]]:
        """(type, value) of every attribute in order, received integrity and fingerprint included.

        The value of a type outside the table is bytes.
        """
        return self._pairs.copy()

    @property
    def types(self) -> KeysView[int]:
        """The types of all attributes, each once."""
        return self._first.keys()

    @property
    def integrity(self) -> Integrity | None:
        """The strongest integrity attribute received: SHA-256 where both are there."""
        if self._sha256_offset:
            return Integrity.SHA256
        return Integrity.SHA1 if self._sha1_offset else None

    @property
    def received(self) -> bytes:
        """The bytes that it was decoded from; none for a message that was not received."""
        return self._received

    @property
    def has_integrity_sha1(self) -> bool:
        return self._sha1_offset > 0

    @property
    def has_integrity_sha256(self) -> bool:
        return self._sha256_offset > 0

    def add(self, attribute: Attribute[T], value: T) -> Message:
        """Append an attribute and return the message.

        ValueError or TypeError, naming the attribute, for a value that cannot be sent, and for
        MESSAGE-INTEGRITY(-SHA256) and FINGERPRINT, which `encode` writes.
        """
        if attribute.type in _SEALING:
            raise ValueError(f"{attribute.name} is written by encode(), not added")
        tlvs = self._encoded() if self._tlvs is None else self._tlvs
        tlvs.append(_tlv(attribute, value, self.transaction_id))
        self._pairs.append((attribute.type, value))
        self._first.setdefault(attribute.type, value)
        return self

    def get(self, attribute: Attribute[T]) -> T | None:
        """The value of the first `attribute`, or None; duplicates do not count (RFC 8489 section 14)."""
        return self._first.get(attribute.type)

    def get_all(self, attribute: Attribute[T]) -> list[T]:
        """The values of every `attribute` in order, for those that may come more than once."""
        return [value for number, value in self._pairs if number == attribute.type]

    def __contains__(self, attribute: Attribute[Any]) -> bool:
        return attribute.type in self._first

    def __repr__(self) -> str:
        # Without values: user names and addresses stay out of logs unless somebody asks for them.
        names = ", ".join(_name(number) for number, _ in self._pairs)
        return f"<Message {self.message_class.name} {self.method:#05x} {self.transaction_id.hex()} [{names}]>"

    def encode(
        self, key: bytes | None = None, integrity: Integrity = Integrity.SHA1, fingerprint: bool = False
    ) -> bytes:
        """The bytes to send: the attributes, integrity over them if there is a `key`, then FINGERPRINT.

        ValueError past 65,535 bytes of attributes. Integrity and fingerprint that were received are not
        repeated: they seal other bytes.
        """
        message_type = join_message_type(self.message_class, self.method)
        transaction_id = self.transaction_id
        body = b"".join(self._encoded() if self._tlvs is None else self._tlvs)
        pack = _HEADER.pack
        try:
            if key is None:
                message = pack(message_type, len(body), MAGIC_COOKIE, transaction_id) + body
            else:
                for seal in SEALS[integrity]:
                    covered = pack(message_type, len(body) + seal.size, MAGIC_COOKIE, transaction_id) + body
                    message = covered + seal.tlv_header + seal.digest(key, covered)
                    body = message[HEADER_SIZE:]
            if not fingerprint:
                return message
            covered = pack(message_type, len(body) + FINGERPRINT_SIZE, MAGIC_COOKIE, transaction_id) + body
        except struct.error:
            raise ValueError(f"{len(body)} bytes of attributes, at most {MAX_LENGTH} fit a message") from None
        return covered + _FINGERPRINT.pack(_FINGERPRINT_TYPE, 4, fingerprint_of(covered))

    def verify(self, key: bytes, integrity: Integrity) -> bool:
        """Whether the received bytes carry `integrity` and were sealed with `key`; constant time.

        False when the attribute is not there, and for a message that was not received. ValueError for both
        at once. A MESSAGE-INTEGRITY-SHA256 truncated to 16 bytes or more counts (RFC 8489 section 14.6); a
        usage that wants all 32 looks at `len(message.get(MESSAGE_INTEGRITY_SHA256))`.
        """
        if integrity is Integrity.SHA1:
            offset, seal = self._sha1_offset, SHA1_SEAL
        elif integrity is Integrity.SHA256:
            offset, seal = self._sha256_offset, SHA256_SEAL
        else:
            raise ValueError("verify one integrity attribute at a time")
        if not offset:
            return False
        # The bytes as received, padding and all, under the length that ends with this attribute.
        data = self._received
        _, size = TLV.unpack_from(data, offset)
        end = offset + TLV.size + size
        covered = b"".join((data[:2], (end - HEADER_SIZE).to_bytes(2, "big"), data[4:offset]))
        return compare_digest(seal.digest(key, covered)[:size], data[offset + TLV.size : end])

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Message:
        """The message in one whole datagram or stream frame; DecodeError for anything else."""
        if type(data) is not bytes:
            data = bytes(data)
        size = len(data)
        if size < HEADER_SIZE:
            raise DecodeError("header", f"{size} bytes, a header takes {HEADER_SIZE}")
        message_type, length, cookie, transaction_id = _HEADER.unpack_from(data)
        if message_type & 0xC000:
            raise DecodeError("header", "the top two bits are not zero")
        if cookie != MAGIC_COOKIE:
            raise DecodeError("header", "no magic cookie")
        if length & 3 or length + HEADER_SIZE != size:
            raise DecodeError("header", f"length {length} does not fit {size} bytes")

        message = cls.__new__(cls)
        message.message_class, message.method = split_message_type(message_type)
        message.transaction_id = transaction_id
        message._received = data
        message._tlvs = None
        message._scan(data, size)
        return message

    def _scan(self, data: bytes, size: int) -> None:
        """One pass over the attributes. Bad values wait until the framing of the whole message is proven."""
        transaction_id = self.transaction_id
        first: dict[int, Any] = {}
        pairs: list[tuple[int, Any]] = []
        unknown: list[int] = []
        fault: tuple[int, str] | None = None
        sha1_offset = sha256_offset = 0
        has_fingerprint = False
        unpack_tlv, decoders, sealing = TLV.unpack_from, _DECODERS, _SEALING

        count = 0
        offset = HEADER_SIZE
        while offset < size:
            # The total is a multiple of 4 and so is every step, so four bytes are always there.
            attribute_type, length = unpack_tlv(data, offset)
            start = offset + 4
            end = start + length
            count += 1
            if end > size:
                raise DecodeError("attributes", f"{_name(attribute_type)} reaches past the end")
            if count > MAX_ATTRIBUTES:
                # The header is good, so whoever asked can be told that it was too much.
                header = Header(self.message_class, self.method, transaction_id)
                raise DecodeError("attributes", f"more than {MAX_ATTRIBUTES}", header)
            if attribute_type == _FINGERPRINT_TYPE:
                _check_fingerprint(data, start, length, size)
                has_fingerprint = True
            elif sha256_offset or (sha1_offset and attribute_type != _SHA256):
                # RFC 8489 sections 14.5 and 14.6: what follows integrity is ignored, FINGERPRINT and a
                # SHA-256 after a SHA-1 excepted.
                offset = end + (-length & 3)
                continue
            elif attribute_type in sealing:
                if attribute_type == _SHA1:
                    sha1_offset = offset
                else:
                    sha256_offset = offset

            decode = decoders.get(attribute_type)
            value: Any = data[start:end]
            if decode is not None:
                try:
                    value = decode(value, transaction_id)
                except ValueError as error:
                    fault = fault or (attribute_type, str(error))
            elif attribute_type < 0x8000 and attribute_type not in unknown:
                unknown.append(attribute_type)
            pairs.append((attribute_type, value))
            if attribute_type not in first:
                first[attribute_type] = value
            offset = end + (-length & 3)

        if fault is not None:
            header = Header(self.message_class, self.method, transaction_id)
            raise DecodeError(_name(fault[0]), fault[1], header)
        self._first = first
        self._pairs = pairs
        self._sha1_offset = sha1_offset
        self._sha256_offset = sha256_offset
        self.unknown_required = tuple(unknown)
        self.has_fingerprint = has_fingerprint

    def _encoded(self) -> list[bytes]:
        if self._tlvs is None:
            self._tlvs = [
                _tlv(
                    ATTRIBUTES.get(number) or Attribute.opaque(number, _name(number)),
                    value,
                    self.transaction_id,
                )
                for number, value in self._pairs
                if number not in _SEALING
            ]
        return self._tlvs


def _check_fingerprint(data: bytes, start: int, length: int, size: int) -> None:
    if length != 4:
        raise DecodeError("FINGERPRINT", f"{length} bytes instead of 4")
    if start + length != size:
        raise DecodeError("FINGERPRINT", "is not the last attribute")
    # Being last, the header's own length is already the one to cover.
    if int.from_bytes(data[start:], "big") != fingerprint_of(data[: start - 4]):
        raise DecodeError("FINGERPRINT", "does not match the message")


def _tlv(attribute: Attribute[T], value: T, transaction_id: bytes) -> bytes:
    try:
        encoded = attribute.encode(value, transaction_id)
        if len(encoded) > MAX_LENGTH:
            raise ValueError(f"{len(encoded)} bytes, at most {MAX_LENGTH} fit an attribute")
        return TLV.pack(attribute.type, len(encoded)) + encoded + _PADDING[len(encoded) & 3]
    except (struct.error, OSError, ValueError) as error:
        raise ValueError(f"{attribute.name}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise TypeError(f"{attribute.name}: {error}") from error


def _name(attribute_type: int) -> str:
    attribute = ATTRIBUTES.get(attribute_type)
    return attribute.name if attribute is not None else f"0x{attribute_type:04X}"
