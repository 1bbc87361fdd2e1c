"""Attribute values that are neither numbers, strings nor addresses: their types and codecs.

A codec is a pair of functions of (value, transaction ID). Decoders raise ValueError with the reason;
encoders raise ValueError, TypeError or struct.error. `Message` names the attribute and the culprit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Decoder = Callable[[bytes, bytes], T]
Encoder = Callable[[T, bytes], bytes]
Codec = tuple[Encoder[T], Decoder[T]]


class ErrorValue(NamedTuple):
    """ERROR-CODE (RFC 8489 section 14.8): code 300 to 699 and a reason phrase."""

    code: int
    reason: str


class AddressErrorValue(NamedTuple):
    """ADDRESS-ERROR-CODE (RFC 8656 section 18.12): why one of two families was not allocated."""

    family: int
    code: int
    reason: str


class PasswordAlgorithmValue(NamedTuple):
    """PASSWORD-ALGORITHM (RFC 8489 section 14.12); `parameters` is empty for MD5 and SHA-256."""

    algorithm: int
    parameters: bytes = b""


class IcmpValue(NamedTuple):
    """ICMP (RFC 8656 section 18.13): type (7 bits), code (9 bits) and 4 bytes of error data."""

    type: int
    code: int
    data: bytes = bytes(4)


class ChangeRequest(NamedTuple):
    """CHANGE-REQUEST (RFC 5780 section 7.2): answer from the other address, the other port, or both."""

    change_ip: bool
    change_port: bool


class TransmitCounter(NamedTuple):
    """TRANSACTION_TRANSMIT_COUNTER (RFC 7982): 1-based numbers of request and response."""

    request: int
    response: int


# RFC 8489 sections 14.3 to 14.14: every text of up to 763 bytes is received. REALM and NONCE may be sent as
# long (the RFC says fewer than 128 characters), so that a client can always echo what it was given.
MAX_TEXT_SIZE = 763
# Section 14.3: a user name is sent with fewer than 509.
MAX_SENT_USERNAME_SIZE = 508
_SIZE_ERROR = "{} bytes instead of {}"


def number(layout: str) -> Codec[int]:
    """One unsigned integer; `layout` is the struct format of the whole value, reserved bytes as `x`.

    Reserved bytes are written as zero and not looked at when received, as every RFC here asks.
    """
    struct = Struct(layout)
    size, unpack = struct.size, struct.unpack

    def decode(value: bytes, _transaction_id: bytes) -> int:
        if len(value) != size:
            raise ValueError(_SIZE_ERROR.format(len(value), size))
        result: int = unpack(value)[0]
        return result

    def encode(value: int, _transaction_id: bytes) -> bytes:
        return struct.pack(value)

    return encode, decode


def text(max_size: int = MAX_TEXT_SIZE, max_sent: int | None = None) -> Codec[str]:
    """UTF-8 of at most `max_size` bytes, or `max_sent` where less may be sent than is received."""
    if max_sent is None:
        max_sent = max_size

    def decode(value: bytes, _transaction_id: bytes) -> str:
        if len(value) > max_size:
            raise ValueError(f"{len(value)} bytes, at most {max_size} are allowed")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 at byte {error.start}") from None

    def encode(value: str, _transaction_id: bytes) -> bytes:
        encoded = value.encode()
        if len(encoded) > max_sent:
            raise ValueError(f"{len(encoded)} bytes, at most {max_sent} are allowed")
        return encoded

    return encode, decode


def opaque(sizes: range | None = None) -> Codec[bytes]:
    """Bytes as they are; `sizes` holds the permitted lengths, None permits any."""

    def decode(value: bytes, _transaction_id: bytes) -> bytes:
        if sizes is not None and len(value) not in sizes:
            raise ValueError(_SIZE_ERROR.format(len(value), _words(sizes)))
        return value

    def encode(value: bytes, transaction_id: bytes) -> bytes:
        # memoryview refuses what is not bytes-like: bytes(5) would send five zeros.
        return decode(bytes(memoryview(value)), transaction_id)

    return encode, decode


def flag() -> Codec[bool]:
    """No value at all: being there is the message. Always True."""

    def decode(value: bytes, _transaction_id: bytes) -> bool:
        if value:
            raise ValueError(_SIZE_ERROR.format(len(value), 0))
        return True

    def encode(value: bool, _transaction_id: bytes) -> bytes:
        if value is not True:
            raise ValueError("a flag is added as True or not at all")
        return b""

    return encode, decode


def decode_even_port(value: bytes, _transaction_id: bytes) -> bool:
    """The R bit: also reserve the next port (RFC 8656 section 18.7)."""
    if len(value) != 1:
        raise ValueError(_SIZE_ERROR.format(len(value), 1))
    return value[0] >= 0x80


def encode_even_port(value: bool, _transaction_id: bytes) -> bytes:
    if not isinstance(value, bool):
        raise TypeError("a bool is wanted")
    return b"\x80" if value else b"\x00"


def decode_response_port(value: bytes, _transaction_id: bytes) -> int:
    """RFC 5780 section 7.5 leaves open whether the two bytes of padding count: both lengths are in use."""
    if len(value) not in (2, 4):
        raise ValueError(_SIZE_ERROR.format(len(value), 4))
    return int.from_bytes(value[:2], "big")


_ERROR = Struct("!xxBB")
_ADDRESS_ERROR = Struct("!BxBB")
_encode_reason, _decode_reason = text()


def decode_error_code(value: bytes, transaction_id: bytes) -> ErrorValue:
    if len(value) < _ERROR.size:
        raise ValueError(_SIZE_ERROR.format(len(value), "4 or more"))
    return ErrorValue(_code(value), _decode_reason(value[4:], transaction_id))


def encode_error_code(value: ErrorValue, transaction_id: bytes) -> bytes:
    code, reason = value
    return _ERROR.pack(*_digits(code)) + _encode_reason(reason, transaction_id)


def decode_address_error_code(value: bytes, transaction_id: bytes) -> AddressErrorValue:
    if len(value) < _ADDRESS_ERROR.size:
        raise ValueError(_SIZE_ERROR.format(len(value), "4 or more"))
    return AddressErrorValue(value[0], _code(value), _decode_reason(value[4:], transaction_id))


def encode_address_error_code(value: AddressErrorValue, transaction_id: bytes) -> bytes:
    family, code, reason = value
    return _ADDRESS_ERROR.pack(family, *_digits(code)) + _encode_reason(reason, transaction_id)


def _code(value: bytes) -> int:
    # RFC 8489 section 14.8: the hundreds in three bits after 13 reserved ones, then 0 to 99.
    hundreds, rest = value[2] & 0b111, value[3]
    if not 3 <= hundreds <= 6:
        raise ValueError(f"class {hundreds} is outside 3 to 6")
    if rest > 99:
        raise ValueError(f"number {rest} is outside 0 to 99")
    return hundreds * 100 + rest


def _digits(code: int) -> tuple[int, int]:
    if not 300 <= code <= 699:
        raise ValueError(f"code {code} is outside 300 to 699")
    return divmod(code, 100)


def decode_unknown_attributes(value: bytes, _transaction_id: bytes) -> tuple[int, ...]:
    if len(value) % 2:
        raise ValueError(f"{len(value)} bytes are no list of 16-bit types")
    return Struct(f"!{len(value) // 2}H").unpack(value)


def encode_unknown_attributes(value: Sequence[int], _transaction_id: bytes) -> bytes:
    return Struct(f"!{len(value)}H").pack(*value)


_ALGORITHM = Struct("!HH")


def decode_password_algorithm(value: bytes, transaction_id: bytes) -> PasswordAlgorithmValue:
    algorithms = decode_password_algorithms(value, transaction_id)
    if len(algorithms) != 1:
        raise ValueError(f"{len(algorithms)} algorithms instead of 1")
    return algorithms[0]


def encode_password_algorithm(value: PasswordAlgorithmValue, _transaction_id: bytes) -> bytes:
    # RFC 8489 section 14.12: the parameters are padded to 4 bytes, and their length does not count that.
    algorithm, parameters = value
    return _ALGORITHM.pack(algorithm, len(parameters)) + parameters + bytes(-len(parameters) % 4)


def decode_password_algorithms(value: bytes, _transaction_id: bytes) -> tuple[PasswordAlgorithmValue, ...]:
    algorithms = []
    offset, size = 0, len(value)
    while offset < size:
        if offset + _ALGORITHM.size > size:
            raise ValueError("cut off inside an algorithm")
        algorithm, length = _ALGORITHM.unpack_from(value, offset)
        start = offset + _ALGORITHM.size
        if start + length > size:
            raise ValueError("parameters reach past the end")
        algorithms.append(PasswordAlgorithmValue(algorithm, value[start : start + length]))
        offset = start + length + -length % 4
    return tuple(algorithms)


def encode_password_algorithms(value: Sequence[PasswordAlgorithmValue], transaction_id: bytes) -> bytes:
    return b"".join(encode_password_algorithm(algorithm, transaction_id) for algorithm in value)


_ICMP = Struct("!xxH4s")


def decode_icmp(value: bytes, _transaction_id: bytes) -> IcmpValue:
    if len(value) != _ICMP.size:
        raise ValueError(_SIZE_ERROR.format(len(value), _ICMP.size))
    bits, data = _ICMP.unpack(value)
    return IcmpValue(bits >> 9, bits & 0x1FF, data)


def encode_icmp(value: IcmpValue, _transaction_id: bytes) -> bytes:
    icmp_type, code, data = value
    if not (0 <= icmp_type < 1 << 7 and 0 <= code < 1 << 9 and len(data) == 4):
        raise ValueError("type takes 7 bits, code 9 bits, data 4 bytes")
    return _ICMP.pack(icmp_type << 9 | code, data)


_CHANGE_IP, _CHANGE_PORT = 0x04, 0x02


def decode_change_request(value: bytes, _transaction_id: bytes) -> ChangeRequest:
    if len(value) != 4:
        raise ValueError(_SIZE_ERROR.format(len(value), 4))
    return ChangeRequest(bool(value[3] & _CHANGE_IP), bool(value[3] & _CHANGE_PORT))


def encode_change_request(value: ChangeRequest, _transaction_id: bytes) -> bytes:
    change_ip, change_port = value
    return bytes((0, 0, 0, (_CHANGE_IP if change_ip else 0) | (_CHANGE_PORT if change_port else 0)))


_COUNTER = Struct("!xxBB")


def decode_transmit_counter(value: bytes, _transaction_id: bytes) -> TransmitCounter:
    if len(value) != _COUNTER.size:
        raise ValueError(_SIZE_ERROR.format(len(value), _COUNTER.size))
    return TransmitCounter(*_COUNTER.unpack(value))


def encode_transmit_counter(value: TransmitCounter, _transaction_id: bytes) -> bytes:
    return _COUNTER.pack(*value)


def _words(sizes: range) -> str:
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} in steps of {sizes.step}"
