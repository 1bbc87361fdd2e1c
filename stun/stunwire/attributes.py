"""The table of attributes: the Python type and the codec of each, one line an attribute.

Numbers and sections are in `attribute_types`. ECN-CHECK-STUN and vendors' attributes, which neither the relay
nor the SDK uses, are left out on purpose and reach the caller as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stunwire import values
from stunwire.addresses import (
    TransportAddress,
    decode_address,
    decode_xor_address,
    encode_address,
    encode_xor_address,
)
from stunwire.attribute_types import AttributeType
from stunwire.values import Codec, Decoder, Encoder

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Attribute(Generic[T]):
    """What `Message.add` and `Message.get` take: a type number and the Python type of its value.

    `encode` and `decode` are functions of (value, transaction ID); use `Message` rather than these.
    """

    type: int
    name: str
    encode: Encoder[T]
    decode: Decoder[T]

    @property
    def comprehension_required(self) -> bool:
        """Whether a receiver that does not know it must refuse the message (RFC 8489 section 14)."""
        return self.type < 0x8000

    @staticmethod
    def opaque(attribute_type: int, name: str) -> Attribute[bytes]:
        """An attribute outside the table, a vendor's for example, with its value as bytes."""
        return Attribute(attribute_type, name, *values.opaque())

    def __repr__(self) -> str:
        return f"<Attribute {self.name} 0x{self.type:04X}>"


# Every entry of the table in the order of its number; filled by `_attribute` below.
ATTRIBUTES: dict[int, Attribute[Any]] = {}


def _attribute(attribute_type: AttributeType, codec: Codec[T], name: str | None = None) -> Attribute[T]:
    """An entry of the table; `name` is for the one that IANA spells with underscores."""
    # A plain int: comparing an IntEnum member in the decoder's dictionaries costs more.
    number = int(attribute_type)
    attribute = Attribute(number, name or attribute_type.name.replace("_", "-"), *codec)
    ATTRIBUTES[number] = attribute
    return attribute


_address: Codec[TransportAddress] = (encode_address, decode_address)
_xor_address: Codec[TransportAddress] = (encode_xor_address, decode_xor_address)
_byte, _short, _long, _quad = (values.number(layout) for layout in ("!B3x", "!H2x", "!I", "!Q"))
_flag = values.flag()
_even_port = (values.encode_even_port, values.decode_even_port)
_response_port = (_short[0], values.decode_response_port)
_error_code = (values.encode_error_code, values.decode_error_code)
_address_error_code = (values.encode_address_error_code, values.decode_address_error_code)
_unknown_attributes = (values.encode_unknown_attributes, values.decode_unknown_attributes)
_password_algorithm = (values.encode_password_algorithm, values.decode_password_algorithm)
_password_algorithms = (values.encode_password_algorithms, values.decode_password_algorithms)
_icmp = (values.encode_icmp, values.decode_icmp)
_change_request = (values.encode_change_request, values.decode_change_request)
_transmit_counter = (values.encode_transmit_counter, values.decode_transmit_counter)
_bytes, _text = values.opaque(), values.text()


def _sized(*sizes: int) -> Codec[bytes]:
    """Bytes of one length, or of `range(*sizes)`."""
    return values.opaque(range(sizes[0], sizes[0] + 1) if len(sizes) == 1 else range(*sizes))


MAPPED_ADDRESS = _attribute(AttributeType.MAPPED_ADDRESS, _address)
CHANGE_REQUEST = _attribute(AttributeType.CHANGE_REQUEST, _change_request)
USERNAME = _attribute(AttributeType.USERNAME, values.text(max_sent=values.MAX_SENT_USERNAME_SIZE))
MESSAGE_INTEGRITY = _attribute(AttributeType.MESSAGE_INTEGRITY, _sized(20))
ERROR_CODE = _attribute(AttributeType.ERROR_CODE, _error_code)
UNKNOWN_ATTRIBUTES = _attribute(AttributeType.UNKNOWN_ATTRIBUTES, _unknown_attributes)
CHANNEL_NUMBER = _attribute(AttributeType.CHANNEL_NUMBER, _short)
LIFETIME = _attribute(AttributeType.LIFETIME, _long)
XOR_PEER_ADDRESS = _attribute(AttributeType.XOR_PEER_ADDRESS, _xor_address)
DATA = _attribute(AttributeType.DATA, _bytes)
REALM = _attribute(AttributeType.REALM, _text)
NONCE = _attribute(AttributeType.NONCE, _text)
XOR_RELAYED_ADDRESS = _attribute(AttributeType.XOR_RELAYED_ADDRESS, _xor_address)
REQUESTED_ADDRESS_FAMILY = _attribute(AttributeType.REQUESTED_ADDRESS_FAMILY, _byte)
EVEN_PORT = _attribute(AttributeType.EVEN_PORT, _even_port)
REQUESTED_TRANSPORT = _attribute(AttributeType.REQUESTED_TRANSPORT, _byte)
DONT_FRAGMENT = _attribute(AttributeType.DONT_FRAGMENT, _flag)
ACCESS_TOKEN = _attribute(AttributeType.ACCESS_TOKEN, _bytes)
MESSAGE_INTEGRITY_SHA256 = _attribute(AttributeType.MESSAGE_INTEGRITY_SHA256, _sized(16, 33, 4))
PASSWORD_ALGORITHM = _attribute(AttributeType.PASSWORD_ALGORITHM, _password_algorithm)
USERHASH = _attribute(AttributeType.USERHASH, _sized(32))
XOR_MAPPED_ADDRESS = _attribute(AttributeType.XOR_MAPPED_ADDRESS, _xor_address)
RESERVATION_TOKEN = _attribute(AttributeType.RESERVATION_TOKEN, _sized(8))
PRIORITY = _attribute(AttributeType.PRIORITY, _long)
USE_CANDIDATE = _attribute(AttributeType.USE_CANDIDATE, _flag)
PADDING = _attribute(AttributeType.PADDING, _bytes)
RESPONSE_PORT = _attribute(AttributeType.RESPONSE_PORT, _response_port)
CONNECTION_ID = _attribute(AttributeType.CONNECTION_ID, _long)
ADDITIONAL_ADDRESS_FAMILY = _attribute(AttributeType.ADDITIONAL_ADDRESS_FAMILY, _byte)
ADDRESS_ERROR_CODE = _attribute(AttributeType.ADDRESS_ERROR_CODE, _address_error_code)
PASSWORD_ALGORITHMS = _attribute(AttributeType.PASSWORD_ALGORITHMS, _password_algorithms)
ALTERNATE_DOMAIN = _attribute(AttributeType.ALTERNATE_DOMAIN, values.text(255))
ICMP = _attribute(AttributeType.ICMP, _icmp)
SOFTWARE = _attribute(AttributeType.SOFTWARE, _text)
ALTERNATE_SERVER = _attribute(AttributeType.ALTERNATE_SERVER, _address)
TRANSACTION_TRANSMIT_COUNTER = _attribute(
    AttributeType.TRANSACTION_TRANSMIT_COUNTER, _transmit_counter, name="TRANSACTION_TRANSMIT_COUNTER"
)
CACHE_TIMEOUT = _attribute(AttributeType.CACHE_TIMEOUT, _long)
FINGERPRINT = _attribute(AttributeType.FINGERPRINT, _long)
ICE_CONTROLLED = _attribute(AttributeType.ICE_CONTROLLED, _quad)
ICE_CONTROLLING = _attribute(AttributeType.ICE_CONTROLLING, _quad)
RESPONSE_ORIGIN = _attribute(AttributeType.RESPONSE_ORIGIN, _address)
OTHER_ADDRESS = _attribute(AttributeType.OTHER_ADDRESS, _address)
THIRD_PARTY_AUTHORIZATION = _attribute(AttributeType.THIRD_PARTY_AUTHORIZATION, _text)
MOBILITY_TICKET = _attribute(AttributeType.MOBILITY_TICKET, _bytes)
