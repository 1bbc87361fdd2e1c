"""Every published vector: RFC 5769 sections 2.1 to 2.4 and RFC 8489 B.1 as corrected by erratum 6268."""

import json
from pathlib import Path
from typing import Any

import pytest
from stunwire import (
    FINGERPRINT,
    ICE_CONTROLLED,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PRIORITY,
    REALM,
    SOFTWARE,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    DecodeError,
    Integrity,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    PasswordAlgorithmValue,
    PreparationError,
    SecurityFeatures,
    long_term_key,
    nonce_cookie,
    opaque_string,
    security_features,
    short_term_key,
    userhash,
)
from stunwire.integrity import fingerprint_of

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "stun.json").read_text())
RFC5769 = {name: entry for name, entry in VECTORS["rfc5769"].items() if name != "negatives"}
B1 = VECTORS["rfc8489_B1_errata6268"]
B1_AS_PRINTED = VECTORS["rfc8489_B1_as_printed"]
MESSAGES = {**RFC5769, "rfc8489_B1_errata6268": B1}


def key_of(entry: dict[str, Any]) -> bytes:
    if "realm" not in entry:
        return short_term_key(entry["password"])
    algorithm = PasswordAlgorithm.SHA256 if "message_integrity_sha256" in entry else PasswordAlgorithm.MD5
    return long_term_key(entry["username"], entry["realm"], entry["password_prepared"], algorithm)


def is_genuine(data: bytes, key: bytes) -> bool:
    try:
        message = Message.decode(data)
    except DecodeError:
        return False
    return any(message.verify(key, integrity) for integrity in (Integrity.SHA1, Integrity.SHA256))


@pytest.fixture(params=MESSAGES.values(), ids=MESSAGES.keys())
def entry(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_values(entry):
    data = bytes.fromhex(entry["hex"])
    assert len(data) == entry["len"]
    message = Message.decode(data)
    assert message.method is Method.BINDING
    assert message.unknown_required == ()
    values = {
        "software": message.get(SOFTWARE),
        "username": message.get(USERNAME),
        "realm": message.get(REALM),
        "nonce": message.get(NONCE),
        "transaction_id": message.transaction_id.hex(),
        "priority": f"{message.get(PRIORITY) or 0:08x}",
        "ice_controlled": f"{message.get(ICE_CONTROLLED) or 0:016x}",
        "xor_mapped_address": list(message.get(XOR_MAPPED_ADDRESS) or ()),
        "integrity_hmac_sha1": (message.get(MESSAGE_INTEGRITY) or b"").hex(),
        "message_integrity_sha256": (message.get(MESSAGE_INTEGRITY_SHA256) or b"").hex(),
        "fingerprint": f"{message.get(FINGERPRINT) or 0:08x}",
        "userhash": (message.get(USERHASH) or b"").hex(),
    }
    expected = {name: value for name, value in entry.items() if name in values}
    if "userhash" in entry:  # then the user name itself is not in the message
        del expected["username"]
    assert {name: values[name] for name in expected} == expected
    assert message.has_fingerprint == ("fingerprint" in entry)


def test_classes():
    classes = [Message.decode(bytes.fromhex(entry["hex"])).message_class for entry in RFC5769.values()]
    request, response = MessageClass.REQUEST, MessageClass.SUCCESS_RESPONSE
    assert classes == [request, response, response, request]


def test_integrity_verifies_with_its_own_key_only(entry):
    message = Message.decode(bytes.fromhex(entry["hex"]))
    wanted = Integrity.SHA256 if "message_integrity_sha256" in entry else Integrity.SHA1
    other = Integrity.SHA1 if wanted is Integrity.SHA256 else Integrity.SHA256
    assert message.integrity is wanted
    assert message.verify(key_of(entry), wanted)
    assert not message.verify(key_of(entry), other)
    assert not message.verify(key_of(entry) + b"x", wanted)
    assert not message.verify(b"", wanted)


@pytest.mark.parametrize("container", [bytearray, memoryview])
def test_any_buffer_decodes(entry, container):
    data = bytes.fromhex(entry["hex"])
    message = Message.decode(container(data))
    assert message.attributes == Message.decode(data).attributes
    assert message.verify(key_of(entry), message.integrity)


def test_keys():
    assert key_of(RFC5769["2.4_long_term_request"]).hex() == RFC5769["2.4_long_term_request"]["key_md5_hex"]
    assert key_of(B1).hex() == B1["key_sha256_hex"]


def test_unprepared_password_of_the_vectors_is_refused_by_opaque_string():
    # The RFCs print a password that SASLprep maps to "TheMatrIX". OpaqueString, which RFC 8489 put in its
    # place, refuses the soft hyphen in it; only the prepared one makes the keys above.
    assert opaque_string(B1["password_prepared"]) == B1["password_prepared"]
    with pytest.raises(PreparationError, match="password"):
        long_term_key(B1["username"], B1["realm"], B1["password_raw"])


def test_b1_userhash_nonce_cookie_and_algorithm():
    message = Message.decode(bytes.fromhex(B1["hex"]))
    assert userhash(B1["username"], B1["realm"]).hex() == B1["userhash"]
    assert message.get(PASSWORD_ALGORITHM) == PasswordAlgorithmValue(PasswordAlgorithm.SHA256, b"")
    assert security_features(message.get(NONCE)) is SecurityFeatures.USERNAME_ANONYMITY
    assert message.get(NONCE).startswith(nonce_cookie(SecurityFeatures.USERNAME_ANONYMITY))


@pytest.mark.parametrize("name", ["2.4_long_term_request", "rfc8489_B1_errata6268"])
def test_encoding_gives_the_printed_bytes(name):
    entry = MESSAGES[name]
    received = Message.decode(bytes.fromhex(entry["hex"]))
    assert received.encode(key_of(entry), received.integrity).hex() == entry["hex"]

    built = Message(MessageClass.REQUEST, Method.BINDING, received.transaction_id)
    if "userhash" in entry:
        built.add(USERHASH, userhash(entry["username"], entry["realm"]))
    else:
        built.add(USERNAME, entry["username"])
    built.add(NONCE, entry["nonce"]).add(REALM, entry["realm"])
    if "userhash" in entry:
        built.add(PASSWORD_ALGORITHM, PasswordAlgorithmValue(PasswordAlgorithm.SHA256))
    assert built.encode(key_of(entry), received.integrity).hex() == entry["hex"]


@pytest.mark.parametrize("name", [name for name, entry in RFC5769.items() if "fingerprint" in entry])
def test_encoding_differs_in_padding_only(name):
    # These three are padded with spaces, which we never send; values, integrity and fingerprint hold.
    entry = RFC5769[name]
    received = Message.decode(bytes.fromhex(entry["hex"]))
    again = Message.decode(received.encode(key_of(entry), fingerprint=True))
    assert again.attributes[:-2] == received.attributes[:-2]
    assert again.verify(key_of(entry), Integrity.SHA1)
    assert again.has_fingerprint


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_any_flipped_byte_is_noticed(entry, flip):
    data = bytes.fromhex(entry["hex"])
    assert is_genuine(data, key_of(entry))
    # Another type in place of FINGERPRINT makes it an attribute after integrity, which is ignored.
    fingerprint_type = {len(data) - 8, len(data) - 7} if "fingerprint" in entry else set()
    for place in set(range(len(data))) - fingerprint_type:
        forged = bytearray(data)
        forged[place] ^= flip
        assert not is_genuine(forged, key_of(entry)), place


@pytest.mark.parametrize("name", [name for name, entry in RFC5769.items() if "fingerprint" in entry])
def test_integrity_notices_what_a_recomputed_fingerprint_hides(name):
    data = bytes.fromhex(RFC5769[name]["hex"])
    for place in range(len(data) - 8):
        forged = bytearray(data)
        forged[place] ^= 0x01
        forged[-4:] = fingerprint_of(bytes(forged[:-8])).to_bytes(4, "big")
        assert not is_genuine(forged, key_of(RFC5769[name])), place


@pytest.mark.parametrize("name", [name for name, entry in RFC5769.items() if "fingerprint" in entry])
def test_wrong_fingerprint_is_not_a_stun_message(name):
    forged = bytearray.fromhex(RFC5769[name]["hex"])
    forged[27] ^= 0x01
    with pytest.raises(DecodeError, match=r"^FINGERPRINT") as caught:
        Message.decode(forged)
    assert caught.value.header is None


def test_changed_user_name_fails_integrity():
    # The check that coturn's rfc5769check makes on section 2.4.
    entry = RFC5769["2.4_long_term_request"]
    forged = bytearray.fromhex(entry["hex"])
    forged[32] = 0x0A
    assert not is_genuine(forged, key_of(entry))


def test_cut_off_anywhere(entry):
    data = bytes.fromhex(entry["hex"])
    for size in range(len(data)):
        with pytest.raises(DecodeError) as caught:
            Message.decode(data[:size])
        assert caught.value.header is None


@pytest.mark.parametrize("extra", range(1, 9))
def test_trailing_bytes(entry, extra):
    with pytest.raises(DecodeError, match=r"^header"):
        Message.decode(bytes.fromhex(entry["hex"]) + bytes(extra))


def test_b1_as_printed_is_refused():
    # Erratum 6268: its length field does not fit, and with the length mended the HMAC is not the one printed.
    data = bytearray.fromhex(B1_AS_PRINTED["hex"])
    with pytest.raises(DecodeError, match=r"^header: length"):
        Message.decode(data)
    data[2:4] = (len(data) - 20).to_bytes(2, "big")
    message = Message.decode(data)
    for algorithm in PasswordAlgorithm:
        key = long_term_key(B1["username"], B1["realm"], B1["password_prepared"], algorithm)
        assert not message.verify(key, Integrity.SHA256)
