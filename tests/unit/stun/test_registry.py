"""Numbers and names against the IANA registries of STUN parameters."""

import pytest
import stunwire
from stunwire import (
    ATTRIBUTES,
    AddressFamily,
    Attribute,
    AttributeType,
    ErrorCode,
    MessageClass,
    Method,
    PasswordAlgorithm,
)
from stunwire.message_types import join_message_type, split_message_type

METHODS = """
0x001 BINDING
0x003 ALLOCATE
0x004 REFRESH
0x006 SEND
0x007 DATA
0x008 CREATE_PERMISSION
0x009 CHANNEL_BIND
0x00A CONNECT
0x00B CONNECTION_BIND
0x00C CONNECTION_ATTEMPT
"""

ATTRIBUTE_NAMES = """
0x0001 MAPPED-ADDRESS
0x0003 CHANGE-REQUEST
0x0006 USERNAME
0x0008 MESSAGE-INTEGRITY
0x0009 ERROR-CODE
0x000A UNKNOWN-ATTRIBUTES
0x000C CHANNEL-NUMBER
0x000D LIFETIME
0x0012 XOR-PEER-ADDRESS
0x0013 DATA
0x0014 REALM
0x0015 NONCE
0x0016 XOR-RELAYED-ADDRESS
0x0017 REQUESTED-ADDRESS-FAMILY
0x0018 EVEN-PORT
0x0019 REQUESTED-TRANSPORT
0x001A DONT-FRAGMENT
0x001B ACCESS-TOKEN
0x001C MESSAGE-INTEGRITY-SHA256
0x001D PASSWORD-ALGORITHM
0x001E USERHASH
0x0020 XOR-MAPPED-ADDRESS
0x0022 RESERVATION-TOKEN
0x0024 PRIORITY
0x0025 USE-CANDIDATE
0x0026 PADDING
0x0027 RESPONSE-PORT
0x002A CONNECTION-ID
0x8000 ADDITIONAL-ADDRESS-FAMILY
0x8001 ADDRESS-ERROR-CODE
0x8002 PASSWORD-ALGORITHMS
0x8003 ALTERNATE-DOMAIN
0x8004 ICMP
0x8022 SOFTWARE
0x8023 ALTERNATE-SERVER
0x8025 TRANSACTION_TRANSMIT_COUNTER
0x8027 CACHE-TIMEOUT
0x8028 FINGERPRINT
0x8029 ICE-CONTROLLED
0x802A ICE-CONTROLLING
0x802B RESPONSE-ORIGIN
0x802C OTHER-ADDRESS
0x802E THIRD-PARTY-AUTHORIZATION
0x8030 MOBILITY-TICKET
"""

ERROR_CODES = """
300 Try Alternate
400 Bad Request
401 Unauthenticated
403 Forbidden
405 Mobility Forbidden
420 Unknown Attribute
437 Allocation Mismatch
438 Stale Nonce
440 Address Family not Supported
441 Wrong Credentials
442 Unsupported Transport Protocol
443 Peer Address Family Mismatch
446 Connection Already Exists
447 Connection Timeout or Failure
486 Allocation Quota Reached
487 Role Conflict
500 Server Error
508 Insufficient Capacity
"""


def rows(table: str, base: int) -> list[tuple[int, str]]:
    return [
        (int(number, base), name)
        for number, name in (line.split(" ", 1) for line in table.strip().splitlines())
    ]


def test_methods():
    assert [(method.value, method.name) for method in Method] == rows(METHODS, 16)


def test_attributes():
    table = [(number, attribute.name) for number, attribute in ATTRIBUTES.items()]
    assert table == rows(ATTRIBUTE_NAMES, 16)
    assert [(member.value, member.name) for member in AttributeType] == [
        (number, name.replace("-", "_")) for number, name in table
    ]


def test_every_attribute_is_exported_under_its_name():
    for number, attribute in ATTRIBUTES.items():
        assert getattr(stunwire, attribute.name.replace("-", "_")) is attribute
        assert attribute.type == number
        assert attribute.comprehension_required == (number < 0x8000)


def test_everything_listed_is_exported():
    assert [name for name in stunwire.__all__ if not hasattr(stunwire, name)] == []


def test_error_codes():
    assert [(code.value, code.reason) for code in ErrorCode] == rows(ERROR_CODES, 10)


def test_families_and_password_algorithms():
    assert {family.name: family.value for family in AddressFamily} == {"IPV4": 1, "IPV6": 2}
    assert {algorithm.name: algorithm.value for algorithm in PasswordAlgorithm} == {"MD5": 1, "SHA256": 2}


def test_opaque_attribute_outside_the_table():
    attribute = Attribute.opaque(0xC057, "GOOG-NETWORK-INFO")
    assert not attribute.comprehension_required
    assert repr(attribute) == "<Attribute GOOG-NETWORK-INFO 0xC057>"


@pytest.mark.parametrize(
    ("message_type", "message_class", "method"),
    [
        # RFC 8489 section 5: the two worked examples, then the types everybody has seen on the wire.
        (0x0001, MessageClass.REQUEST, Method.BINDING),
        (0x0101, MessageClass.SUCCESS_RESPONSE, Method.BINDING),
        (0x0011, MessageClass.INDICATION, Method.BINDING),
        (0x0111, MessageClass.ERROR_RESPONSE, Method.BINDING),
        (0x0113, MessageClass.ERROR_RESPONSE, Method.ALLOCATE),
        (0x0016, MessageClass.INDICATION, Method.SEND),
        (0x0017, MessageClass.INDICATION, Method.DATA),
        (0x0109, MessageClass.SUCCESS_RESPONSE, Method.CHANNEL_BIND),
        (0x001C, MessageClass.INDICATION, Method.CONNECTION_ATTEMPT),
        (0x3FFF, MessageClass.ERROR_RESPONSE, 0xFFF),
        (0x3EEF, MessageClass.REQUEST, 0xFFF),
        (0x0200, MessageClass.REQUEST, 0x080),
        (0x0020, MessageClass.REQUEST, 0x010),
    ],
)
def test_message_type(message_type, message_class, method):
    assert split_message_type(message_type) == (message_class, method)
    assert join_message_type(message_class, method) == message_type


def test_message_types_are_one_to_one():
    for message_type in range(1 << 14):
        message_class, method = split_message_type(message_type)
        assert join_message_type(message_class, method) == message_type
        assert isinstance(message_class, MessageClass)
        assert isinstance(method, Method) == (method in set(Method))
