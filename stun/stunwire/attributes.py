"""The table of attributes: number, IANA spelling and codec of each, one line an attribute.

Numbers are those of the IANA registry "STUN Attributes"; the section that defines the value stands beside
each. Attributes that no document here uses (ECN-CHECK-STUN, vendors' own) are left out and reach the caller
as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

from stunwire import values
from stunwire.addresses import (
    TransportAddress,
    decode_address,
    decode_xor_address,
    encode_address,
    encode_xor_address,
)
from stunwire.values import Codec, Decoder, Encoder

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Attribute(Generic[T]):
    """What `Message.add` and `Message.get` take: the type number and the Python type of the value belong together.

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


def _attribute(attribute_type: int, name: str, codec: Codec[T]) -> Attribute[T]:
    attribute = Attribute(attribute_type, name, *codec)
    ATTRIBUTES[attribute_type] = attribute
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


# fmt: off
MAPPED_ADDRESS = _attribute(0x0001, "MAPPED-ADDRESS", _address)                              # RFC 8489 14.1
CHANGE_REQUEST = _attribute(0x0003, "CHANGE-REQUEST", _change_request)                       # RFC 5780 7.2
USERNAME = _attribute(0x0006, "USERNAME", values.text(508))                                  # RFC 8489 14.3
MESSAGE_INTEGRITY = _attribute(0x0008, "MESSAGE-INTEGRITY", _sized(20))                      # RFC 8489 14.5
ERROR_CODE = _attribute(0x0009, "ERROR-CODE", _error_code)                                   # RFC 8489 14.8
UNKNOWN_ATTRIBUTES = _attribute(0x000A, "UNKNOWN-ATTRIBUTES", _unknown_attributes)           # RFC 8489 14.13
CHANNEL_NUMBER = _attribute(0x000C, "CHANNEL-NUMBER", _short)                                # RFC 8656 18.1
LIFETIME = _attribute(0x000D, "LIFETIME", _long)                                             # RFC 8656 18.2
XOR_PEER_ADDRESS = _attribute(0x0012, "XOR-PEER-ADDRESS", _xor_address)                      # RFC 8656 18.3
DATA = _attribute(0x0013, "DATA", _bytes)                                                    # RFC 8656 18.4
REALM = _attribute(0x0014, "REALM", _text)                                                   # RFC 8489 14.9
NONCE = _attribute(0x0015, "NONCE", _text)                                                   # RFC 8489 14.10
XOR_RELAYED_ADDRESS = _attribute(0x0016, "XOR-RELAYED-ADDRESS", _xor_address)                # RFC 8656 18.5
REQUESTED_ADDRESS_FAMILY = _attribute(0x0017, "REQUESTED-ADDRESS-FAMILY", _byte)             # RFC 8656 18.7
EVEN_PORT = _attribute(0x0018, "EVEN-PORT", _even_port)                                      # RFC 8656 18.6
REQUESTED_TRANSPORT = _attribute(0x0019, "REQUESTED-TRANSPORT", _byte)                       # RFC 8656 18.8
DONT_FRAGMENT = _attribute(0x001A, "DONT-FRAGMENT", _flag)                                   # RFC 8656 18.9
ACCESS_TOKEN = _attribute(0x001B, "ACCESS-TOKEN", _bytes)                                    # RFC 7635 6.2
MESSAGE_INTEGRITY_SHA256 = _attribute(0x001C, "MESSAGE-INTEGRITY-SHA256", _sized(16, 33, 4))  # RFC 8489 14.6
PASSWORD_ALGORITHM = _attribute(0x001D, "PASSWORD-ALGORITHM", _password_algorithm)           # RFC 8489 14.12
USERHASH = _attribute(0x001E, "USERHASH", _sized(32))                                        # RFC 8489 14.4
XOR_MAPPED_ADDRESS = _attribute(0x0020, "XOR-MAPPED-ADDRESS", _xor_address)                  # RFC 8489 14.2
RESERVATION_TOKEN = _attribute(0x0022, "RESERVATION-TOKEN", _sized(8))                       # RFC 8656 18.10
PRIORITY = _attribute(0x0024, "PRIORITY", _long)                                             # RFC 8445 16.1
USE_CANDIDATE = _attribute(0x0025, "USE-CANDIDATE", _flag)                                   # RFC 8445 16.1
PADDING = _attribute(0x0026, "PADDING", _bytes)                                              # RFC 5780 7.6
RESPONSE_PORT = _attribute(0x0027, "RESPONSE-PORT", _response_port)                          # RFC 5780 7.5
CONNECTION_ID = _attribute(0x002A, "CONNECTION-ID", _long)                                   # RFC 6062 6.2.1
ADDITIONAL_ADDRESS_FAMILY = _attribute(0x8000, "ADDITIONAL-ADDRESS-FAMILY", _byte)           # RFC 8656 18.11
ADDRESS_ERROR_CODE = _attribute(0x8001, "ADDRESS-ERROR-CODE", _address_error_code)           # RFC 8656 18.12
PASSWORD_ALGORITHMS = _attribute(0x8002, "PASSWORD-ALGORITHMS", _password_algorithms)        # RFC 8489 14.11
ALTERNATE_DOMAIN = _attribute(0x8003, "ALTERNATE-DOMAIN", values.text(255))                  # RFC 8489 14.16
ICMP = _attribute(0x8004, "ICMP", _icmp)                                                     # RFC 8656 18.13
SOFTWARE = _attribute(0x8022, "SOFTWARE", _text)                                             # RFC 8489 14.14
ALTERNATE_SERVER = _attribute(0x8023, "ALTERNATE-SERVER", _address)                          # RFC 8489 14.15
TRANSACTION_TRANSMIT_COUNTER = _attribute(0x8025, "TRANSACTION_TRANSMIT_COUNTER", _transmit_counter)  # RFC 7982 3
CACHE_TIMEOUT = _attribute(0x8027, "CACHE-TIMEOUT", _long)                                   # RFC 5780 7.1
FINGERPRINT = _attribute(0x8028, "FINGERPRINT", _long)                                       # RFC 8489 14.7
ICE_CONTROLLED = _attribute(0x8029, "ICE-CONTROLLED", _quad)                                 # RFC 8445 16.1
ICE_CONTROLLING = _attribute(0x802A, "ICE-CONTROLLING", _quad)                               # RFC 8445 16.1
RESPONSE_ORIGIN = _attribute(0x802B, "RESPONSE-ORIGIN", _address)                            # RFC 5780 7.3
OTHER_ADDRESS = _attribute(0x802C, "OTHER-ADDRESS", _address)                                # RFC 5780 7.4
THIRD_PARTY_AUTHORIZATION = _attribute(0x802E, "THIRD-PARTY-AUTHORIZATION", _text)           # RFC 7635 6.1
MOBILITY_TICKET = _attribute(0x8030, "MOBILITY-TICKET", _bytes)                              # RFC 8016 3.4
# fmt: on

# Attributes by number, for logs and for reading `Message.unknown_required` beside what is known.
AttributeType = IntEnum(  # type: ignore[misc]
    "AttributeType",
    {attribute.name.replace("-", "_"): number for number, attribute in ATTRIBUTES.items()},
)
