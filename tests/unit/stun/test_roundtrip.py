"""Any message of any attributes comes back as it was sent, sealed or not."""

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stunwire import (
    ATTRIBUTES,
    AddressErrorValue,
    Attribute,
    ChangeRequest,
    DecodeError,
    ErrorValue,
    IcmpValue,
    Integrity,
    Message,
    MessageClass,
    PasswordAlgorithmValue,
    TransmitCounter,
    TransportAddress,
)

SEALS = {"MESSAGE-INTEGRITY", "MESSAGE-INTEGRITY-SHA256", "FINGERPRINT"}


def numbers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


def texts(max_size: int) -> st.SearchStrategy[str]:
    return st.text(max_size=40).filter(lambda text: len(text.encode()) <= max_size)


# Only hosts that inet_ntop spells the same way; the canonical spelling has its own test in test_values.py.
hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.binary(min_size=14, max_size=14).map(
        lambda rest: ":".join(f"{int.from_bytes(bytes((1, b)), 'big'):x}" for b in rest[:8])
    ),
)
addresses = st.builds(TransportAddress, hosts, numbers(16))
codes = st.integers(300, 699)
algorithms = st.builds(PasswordAlgorithmValue, numbers(16), st.binary(max_size=9))

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "MAPPED-ADDRESS": addresses,
    "CHANGE-REQUEST": st.builds(ChangeRequest, st.booleans(), st.booleans()),
    "USERNAME": texts(508),
    "ERROR-CODE": st.builds(ErrorValue, codes, texts(763)),
    "UNKNOWN-ATTRIBUTES": st.lists(numbers(16), max_size=9).map(tuple),
    "CHANNEL-NUMBER": numbers(16),
    "LIFETIME": numbers(32),
    "XOR-PEER-ADDRESS": addresses,
    "DATA": st.binary(max_size=300),
    "REALM": texts(763),
    "NONCE": texts(763),
    "XOR-RELAYED-ADDRESS": addresses,
    "REQUESTED-ADDRESS-FAMILY": numbers(8),
    "EVEN-PORT": st.booleans(),
    "REQUESTED-TRANSPORT": numbers(8),
    "DONT-FRAGMENT": st.just(True),
    "ACCESS-TOKEN": st.binary(max_size=100),
    "PASSWORD-ALGORITHM": algorithms,
    "USERHASH": st.binary(min_size=32, max_size=32),
    "XOR-MAPPED-ADDRESS": addresses,
    "RESERVATION-TOKEN": st.binary(min_size=8, max_size=8),
    "PRIORITY": numbers(32),
    "USE-CANDIDATE": st.just(True),
    "PADDING": st.binary(max_size=100),
    "RESPONSE-PORT": numbers(16),
    "CONNECTION-ID": numbers(32),
    "ADDITIONAL-ADDRESS-FAMILY": numbers(8),
    "ADDRESS-ERROR-CODE": st.builds(AddressErrorValue, numbers(8), codes, texts(763)),
    "PASSWORD-ALGORITHMS": st.lists(algorithms, max_size=4).map(tuple),
    "ALTERNATE-DOMAIN": texts(255),
    "ICMP": st.builds(IcmpValue, numbers(7), numbers(9), st.binary(min_size=4, max_size=4)),
    "SOFTWARE": texts(763),
    "ALTERNATE-SERVER": addresses,
    "TRANSACTION_TRANSMIT_COUNTER": st.builds(TransmitCounter, numbers(8), numbers(8)),
    "CACHE-TIMEOUT": numbers(32),
    "ICE-CONTROLLED": numbers(64),
    "ICE-CONTROLLING": numbers(64),
    "RESPONSE-ORIGIN": addresses,
    "OTHER-ADDRESS": addresses,
    "THIRD-PARTY-AUTHORIZATION": texts(763),
    "MOBILITY-TICKET": st.binary(max_size=100),
}

known = st.sampled_from([attribute for attribute in ATTRIBUTES.values() if attribute.name not in SEALS])
unknown = (
    numbers(16)
    .filter(lambda number: number not in ATTRIBUTES)
    .map(lambda number: Attribute.opaque(number, "unknown"))
)
attributes = st.one_of(
    known.flatmap(lambda attribute: st.tuples(st.just(attribute), VALUES[attribute.name])),
    st.tuples(unknown, st.binary(max_size=40)),
)
messages = st.tuples(
    st.sampled_from(MessageClass),
    numbers(12),
    st.binary(min_size=12, max_size=12),
    st.lists(attributes, max_size=10),
)


def build(parts: tuple[Any, ...]) -> Message:
    message_class, method, transaction_id, content = parts
    message = Message(message_class, method, transaction_id)
    for attribute, value in content:
        message.add(attribute, value)
    return message


def test_every_attribute_has_a_strategy():
    assert set(VALUES) == {attribute.name for attribute in ATTRIBUTES.values()} - SEALS


@given(messages, st.none() | st.binary(min_size=1, max_size=40), st.integers(1, 3), st.booleans())
def test_messages(parts, key, seals, fingerprint):
    sent = build(parts)
    integrity = Integrity(seals)
    data = sent.encode(key, integrity, fingerprint)
    received = Message.decode(data)
    assert (received.message_class, received.method) == (sent.message_class, sent.method)
    assert received.transaction_id == sent.transaction_id
    content = received.attributes
    assert content[: len(sent.attributes)] == sent.attributes
    assert len(content) == len(sent.attributes) + fingerprint + (len(SEALS_OF[seals]) if key else 0)
    assert received.has_fingerprint == fingerprint
    for candidate in (Integrity.SHA1, Integrity.SHA256):
        there = key is not None and candidate in integrity
        assert received.verify(key or b"", candidate) == there
        if there:
            assert not received.verify(key + b"?", candidate)
    assert received.encode(key, integrity, fingerprint) == data


SEALS_OF = {1: ("sha1",), 2: ("sha256",), 3: ("sha1", "sha256")}


@given(messages, st.data())
def test_one_changed_bit_never_passes_integrity(parts, draw):
    data = bytearray(build(parts).encode(b"key"))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        message = Message.decode(data)
    except DecodeError:
        return
    assert not message.verify(b"key", Integrity.SHA1)


@given(st.binary(max_size=100))
def test_any_bytes(data):
    header = bytes.fromhex("00032112a442")
    whole = header[:2] + len(data).to_bytes(2, "big") + header[2:] + bytes(12) + data
    for candidate in (data, whole):
        with contextlib.suppress(DecodeError):
            Message.decode(candidate)
