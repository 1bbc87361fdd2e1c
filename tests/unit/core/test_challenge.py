"""The challenge (RFC 8489 section 9.2.4, first step): what an unknown client is told, and no more."""

import pytest
from stunwire import NONCE, REALM, Method, PasswordAlgorithm, SecurityFeatures, integrity
from turnrelay.core.events import AuthenticationFailed, AuthenticationFailure, Throttle, Throttled
from turnrelay.core.protocols import Credential
from unit.core.turn_client import (
    HERE,
    STREAM,
    Client,
    answer,
    bare,
    only,
    refused,
    reply,
    tlvs,
    udp,
)

AUTHENTICATED = (Method.ALLOCATE, Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND)
ERROR_TYPES = dict(zip(AUTHENTICATED, (0x0113, 0x0114, 0x0118, 0x0119), strict=True))


@pytest.mark.parametrize("method", AUTHENTICATED)
@pytest.mark.parametrize("path", [HERE, STREAM], ids=["UDP", "TCP"])
def test_a_request_without_integrity_is_challenged(world, method, path):
    transaction = b"twelve bytes"
    outputs = world.deliver(bare(method, transaction_id=transaction), path, 0)
    data = reply(outputs).data
    assert int.from_bytes(data[:2], "big") == ERROR_TYPES[method]
    assert data[8:20] == transaction
    assert refused(outputs) == 401
    assert AuthenticationFailed(path, AuthenticationFailure.NO_CREDENTIALS) in outputs


def test_it_carries_realm_nonce_and_algorithms(world):
    found = dict(tlvs(reply(world.deliver(bare(Method.ALLOCATE), HERE, 0)).data))
    assert set(found) == {0x0009, 0x0014, 0x0015, 0x8002}
    assert found[0x0014] == b"example.org"
    # Two algorithms with no parameters, the preferred one first (sections 14.11 and 18.5.1).
    assert found[0x8002] == bytes.fromhex("0002 0000 0001 0000")


@pytest.mark.parametrize(
    ("features", "cookie"),
    [
        # Appendix B.1 has "obMatJos2AAAC" for user name anonymity; erratum 6290 counts bits from the right.
        (SecurityFeatures.PASSWORD_ALGORITHMS, b"obMatJos2AAAB"),
        (SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY, b"obMatJos2AAAD"),
    ],
)
def test_the_nonce_begins_with_the_cookie(new_world, features, cookie):
    world = new_world(features=features)
    found = dict(tlvs(reply(world.deliver(bare(Method.ALLOCATE), HERE, 0)).data))
    assert found[0x0015].startswith(cookie)
    # Section 14.10: quoted text or quoted pairs, fewer than 128 characters.
    assert found[0x0015].isascii()
    assert b'"' not in found[0x0015]
    assert b"\\" not in found[0x0015]
    assert len(found[0x0015]) < 128


def test_algorithms_are_offered_only_under_their_feature_bit(new_world):
    """Section 9.2.4: a server that adds PASSWORD-ALGORITHMS MUST set the bit."""
    world = new_world(features=SecurityFeatures.NONE)
    found = dict(tlvs(reply(world.deliver(bare(Method.ALLOCATE), HERE, 0)).data))
    assert found[0x0015].startswith(b"obMatJos2AAAA")
    assert 0x8002 not in found


@pytest.mark.parametrize("realm", ["turnrelay", "example.org", "localhost", "a"])
@pytest.mark.parametrize("path", [HERE, udp("2001:db8::15", 65535)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("now", [0, 1.7e9])
def test_401_and_438_take_at_most_100_bytes(new_world, realm, path, now):
    """An unauthenticated answer is no amplifier, and what the client needs is never left out for it."""
    world = new_world(realm=realm)
    client = Client(world, path)
    client.greet(now)
    stale = [pair if pair[0] is not NONCE else (NONCE, "obMatJos2AAADstale") for pair in client.credentials()]
    for outputs in (
        world.deliver(bare(Method.ALLOCATE), path, now),
        client.allocate(now=now, credentials=stale),
    ):
        assert refused(outputs) in (401, 438)
        assert len(reply(outputs).data) <= 100
        assert {kind for kind, _ in tlvs(reply(outputs).data)} == {0x0009, 0x0014, 0x0015, 0x8002}


def test_a_long_realm_is_sent_whole(new_world):
    realm = "r" * 127
    world = new_world(realm=realm)
    assert answer(world.deliver(bare(Method.ALLOCATE), HERE, 0)).get(REALM) == realm


def test_no_two_addresses_share_a_nonce(world):
    """Section 9.2.4: never the same nonce unless IP address and port are the same."""
    hosts = ["198.51.100.15", "198.51.100.16", "2001:db8::15", "2001:db8::16"]
    paths = [udp(host, port) for host in hosts for port in (40000, 40001)]
    nonces = {answer(world.deliver(bare(Method.ALLOCATE), path, 0)).get(NONCE) for path in paths}
    assert len(nonces) == len(paths)


def test_it_is_paid_from_the_rate_of_its_source(world):
    world.rate_limit.left = 1
    assert refused(world.deliver(bare(Method.ALLOCATE), HERE, 0)) == 401
    assert world.deliver(bare(Method.ALLOCATE), HERE, 0) == [
        AuthenticationFailed(HERE, AuthenticationFailure.NO_CREDENTIALS),
        Throttled(HERE, Throttle.UNAUTHENTICATED),
    ]
    assert world.rate_limit.asked == [HERE.client.host] * 2


def test_success_costs_nothing_of_that_rate(world, alice):
    alice.greet(now=0)
    world.rate_limit.left = 0
    assert alice.allocate(now=0)
    assert world.rate_limit.asked == [HERE.client.host]


def test_nothing_is_kept_of_a_stranger(world):
    for port in range(40000, 40100):
        world.deliver(bare(Method.ALLOCATE), udp("198.51.100.15", port), 0)
    assert world.remnants() == {}


# -- unknown user, wrong password: one answer ---------------------------------------------------------------


def strangers(world, **how):
    """The same client as an unknown user and with a wrong password, with names of one length."""
    unknown, wrong = Client(world, HERE, "nobod", "x", **how), Client(world, HERE, "alice", "x", **how)
    unknown.greet(now=0)
    wrong.greet(now=0)
    return unknown, wrong


HOWS = [{}, {"algorithm": 1}, {"algorithm": 2}, {"algorithm": 2, "anonymous": True}]
HOW_NAMES = ["RFC 5389", "MD5", "SHA-256", "USERHASH"]


@pytest.mark.parametrize("how", HOWS, ids=HOW_NAMES)
@pytest.mark.parametrize("method", AUTHENTICATED)
def test_unknown_users_and_wrong_passwords_get_the_same_bytes(world, method, how):
    transaction = b"twelve bytes"
    first, second = (
        reply(client.ask(method, now=0, transaction_id=transaction)) for client in strangers(world, **how)
    )
    assert first == second
    assert len(first.data) <= 100


@pytest.mark.parametrize("how", HOWS, ids=HOW_NAMES)
def test_what_the_operator_sees_tells_them_apart(world, how):
    unknown, wrong = strangers(world, **how)
    assert only(unknown.allocate(), AuthenticationFailed)[0].reason is AuthenticationFailure.UNKNOWN_USER
    assert only(wrong.allocate(), AuthenticationFailed)[0].reason is AuthenticationFailure.WRONG_PASSWORD


@pytest.fixture
def digests(monkeypatch):
    """Every digest that is computed from now on: its algorithm and over how many bytes."""
    digest, computed = integrity.keyed_digest, []

    def noting(key, data, algorithm):
        computed.append((algorithm().name, len(data)))
        return digest(key, data, algorithm)

    monkeypatch.setattr(integrity, "keyed_digest", noting)
    return computed


@pytest.mark.parametrize("how", HOWS, ids=HOW_NAMES)
def test_both_cost_the_same_hashes(world, digests, how):
    """Nothing to be learnt from the time it takes: the same digests over as many bytes."""
    work = []
    for client in strangers(world, **how):
        request = client.form(Method.ALLOCATE)
        digests.clear()
        world.deliver(request, HERE, 0)
        work.append(digests.copy())
    assert work[0] == work[1]
    assert ("sha256" if "algorithm" in how else "sha1") in {algorithm for algorithm, _ in work[0]}


def test_a_user_without_a_key_of_the_algorithm_costs_the_same(world, digests):
    """Of users whose key is an old MD5 one alone, the time must not tell that they exist."""
    unknown, known = strangers(world, algorithm=2)
    only_md5 = Credential("alice", "alice", {PasswordAlgorithm.MD5: b"key"})
    work = []
    for client, found in ((unknown, []), (known, [only_md5])):
        [question] = world.server.receive(client.form(Method.ALLOCATE), HERE, 0)
        digests.clear()
        assert refused(world.server.key_found(question.ticket, found, 0)) == 401
        work.append(digests.copy())
    assert work[0] == work[1]


def test_no_response_to_a_stranger_is_signed(world):
    unknown, wrong = strangers(world)
    for client in (unknown, wrong):
        kinds = {kind for kind, _ in tlvs(reply(client.allocate()).data)}
        # Section 9.2.4: SHOULD NOT include USERNAME, USERHASH or integrity.
        assert not kinds & {0x0006, 0x001E, 0x0008, 0x001C}


def test_the_reason_phrase_is_the_rfcs_or_left_out(new_world):
    """RFC 8489 section 14.8: the code is in class and number, the phrase is for people."""
    for realm in ("a", "example.org"):
        outputs = new_world(realm=realm).deliver(bare(Method.ALLOCATE), HERE, 0)
        kind, error = tlvs(reply(outputs).data)[0]
        assert kind == 0x0009
        assert error[:4] == b"\0\0\x04\x01"
        assert error[4:] in (b"Unauthenticated", b"")
