"""Long-term credentials (RFC 8489 section 9.2.4) step by step: who is let in, how an answer is sealed."""

import pytest
from stunwire import (
    LIFETIME,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    Attribute,
    Integrity,
    Method,
    PasswordAlgorithm,
    PasswordAlgorithmValue,
)
from turnrelay.core.events import AuthenticationFailed, AuthenticationFailure
from turnrelay.core.outputs import LookUpKey
from turnrelay.core.protocols import Credential, KeyQuery
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    MD5,
    PEER,
    SHA256,
    UDP,
    accepted,
    answer,
    bare,
    only,
    refused,
    reply,
    seal,
    sealed_with,
    silent,
    tlv,
    tlvs,
)

SHA256_VALUE, MD5_VALUE = PasswordAlgorithmValue(SHA256), PasswordAlgorithmValue(MD5)


def changed(pairs, *replacements, without=()):
    """Credentials with some attributes replaced, added or left out."""
    kinds = [attribute.type for attribute, _ in replacements] + [attribute.type for attribute in without]
    return [pair for pair in pairs if pair[0].type not in kinds] + list(replacements)


# -- who is let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "anonymous", "seals"),
    [
        (None, False, "sha1"),
        (None, True, "sha1"),
        (MD5, False, "sha256"),
        (MD5, True, "sha256"),
        (SHA256, False, "sha256"),
        (SHA256, True, "sha256"),
    ],
)
@pytest.mark.parametrize("username", ["alice", "грета"])
def test_every_way_to_sign_is_understood_and_answered_alike(world, username, algorithm, anonymous, seals):
    client = world.client(username=username, algorithm=algorithm, anonymous=anonymous)
    outputs = client.allocate()
    accepted(outputs)
    data = reply(outputs).data
    assert sealed_with(data, client.key) == {seals}
    # Section 9.2.4: REALM, NONCE, USERNAME and USERHASH SHOULD NOT be in the answer.
    assert not {kind for kind, _ in tlvs(data)} & {0x0006, 0x0014, 0x0015, 0x001E}


def test_refusals_of_known_users_are_sealed_too(world, alice, modern):
    for client, seals in ((alice, "sha1"), (modern, "sha256")):
        outputs = client.ask(Method.ALLOCATE, now=0)
        assert refused(outputs) == 400
        assert sealed_with(reply(outputs).data, client.key) == {seals}


@pytest.mark.parametrize("algorithm", [MD5, SHA256])
def test_a_client_that_named_an_algorithm_is_answered_with_sha256(world, algorithm):
    """Section 9.2.4: any response MUST include MESSAGE-INTEGRITY-SHA256 unless no algorithm was named."""
    client = world.client(algorithm=algorithm)
    outputs = client.allocate(integrity=Integrity.SHA1)
    accepted(outputs)
    assert sealed_with(reply(outputs).data, client.key) == {"sha256"}


def test_a_client_that_named_no_algorithm_is_answered_with_sha1(world, alice):
    """Section 9.2.4: in that case MESSAGE-INTEGRITY MUST be used instead."""
    outputs = alice.allocate(integrity=Integrity.SHA256)
    accepted(outputs)
    assert sealed_with(reply(outputs).data, alice.key) == {"sha1"}


def test_the_answer_has_a_fingerprint_if_the_request_had(alice):
    for wanted in (True, False):
        message = answer(alice.ask(Method.ALLOCATE, now=0, fingerprint=wanted))
        assert message.has_fingerprint is wanted


def test_the_user_name_is_prepared_before_it_is_looked_up(world):
    """OpaqueString (RFC 8265 section 4.2) maps spaces that are not ASCII and composes to NFC."""
    world.users = {"zoé a": "x"}
    client = world.client(username="zoé a")
    client.greet(now=0)
    typed = changed(client.credentials(), (USERNAME, "zoé\u00a0a"))
    client.allocate(credentials=typed)
    assert world.asked == [KeyQuery(username="zoé a")]


def test_userhash_is_looked_up_as_it_came(world, modern):
    modern.allocate()
    [(_, value)] = [pair for pair in modern.credentials() if pair[0] is USERHASH]
    assert world.asked == [KeyQuery(userhash=value)]


def test_the_own_user_of_an_allocation_is_not_looked_up_again(world, alice, modern):
    for client in (alice, world.client(ELSEWHERE, algorithm=SHA256, anonymous=True)):
        client.allocate()
        world.asked.clear()
        accepted(client.refresh(600))
        assert world.asked == []


def test_a_user_who_may_be_removed_is_looked_up_for_each_refresh(world):
    """The allocation of somebody who is no user any more lives out its time and no longer."""
    world.removable.add("alice")
    for client in (world.client(), world.client(ELSEWHERE, algorithm=SHA256, anonymous=True)):
        client.allocate()
        for now in (1, 2):
            world.asked.clear()
            accepted(client.refresh(600, now=now))
            assert len(world.asked) == 1
        world.asked.clear()
        accepted(client.permit(PEER, now=3))
        assert world.asked == []


def test_a_removed_user_prolongs_nothing(world, alice):
    world.removable.add("alice")
    alice.allocate()
    del world.users["alice"]
    outputs = alice.refresh(3600, now=300)
    assert refused(outputs) == 401
    assert AuthenticationFailed(HERE, AuthenticationFailure.UNKNOWN_USER, world.id_at(HERE)) in outputs
    assert len(world.plane.opened) == 1
    world.sleep(600)
    assert world.quotas.live() == 0


def test_a_changed_password_counts_at_the_next_refresh(world, alice):
    world.removable.add("alice")
    alice.allocate()
    world.users["alice"] = "through the looking-glass"
    assert refused(alice.refresh(600, now=1)) == 401
    alice.password = world.users["alice"]
    accepted(alice.refresh(600, now=2))


def test_after_a_refresh_with_the_new_password_everything_goes_by_it(world, alice):
    world.removable.add("alice")
    alice.allocate()
    alice.password = world.users["alice"] = "through the looking-glass"
    accepted(alice.refresh(600, now=1))
    accepted(alice.permit(PEER, now=2))
    accepted(alice.refresh(600, now=3))


def test_another_user_on_the_path_of_an_allocation_is_looked_up(world, alice):
    alice.allocate()
    world.asked.clear()
    assert refused(world.client(HERE, "bob").refresh(600)) == 441
    assert world.asked == [KeyQuery(username="bob")]


def test_any_of_several_candidates_may_have_signed(world, alice):
    """While a shared secret is being rotated a user has two keys; the answer is sealed with the one used."""
    alice.greet(now=0)
    other = Credential("alice", "alice", {PasswordAlgorithm.MD5: b"a key of another secret"})
    [question] = world.server.receive(alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP)), HERE, 0)
    outputs = world.settle(world.server.key_found(question.ticket, [other, world.credential("alice")], 0), 0)
    accepted(outputs)
    assert sealed_with(reply(outputs).data, alice.key) == {"sha1"}


def test_none_of_several_candidates_is_a_wrong_password(world, alice):
    alice.greet(now=0)
    others = [Credential("alice", "alice", {PasswordAlgorithm.MD5: key}) for key in (b"one", b"two")]
    [question] = world.server.receive(alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP)), HERE, 0)
    outputs = world.server.key_found(question.ticket, others, 0)
    assert refused(outputs) == 401
    assert AuthenticationFailed(HERE, AuthenticationFailure.WRONG_PASSWORD) in outputs


def test_a_user_without_a_sha256_key_cannot_be_asked_for_it(world, modern):
    modern.greet(now=0)
    only_md5 = Credential("alice", "alice", {PasswordAlgorithm.MD5: b"key"})
    [question] = world.server.receive(modern.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP)), HERE, 0)
    assert refused(world.server.key_found(question.ticket, [only_md5], 0)) == 401


# -- second step: incomplete credentials --------------------------------------------------------------------


@pytest.mark.parametrize("missing", [USERNAME, REALM, NONCE], ids=lambda attribute: attribute.name)
@pytest.mark.parametrize("integrity", Integrity)
def test_integrity_without_its_attributes_is_400(world, alice, missing, integrity):
    alice.greet(now=0)
    outputs = alice.allocate(credentials=changed(alice.credentials(), without=[missing]), integrity=integrity)
    assert refused(outputs) == 400
    # SHOULD NOT include USERNAME, USERHASH, NONCE or REALM, and nothing can seal it.
    assert {kind for kind, _ in tlvs(reply(outputs).data)} == {0x0009}
    assert AuthenticationFailed(HERE, AuthenticationFailure.INCOMPLETE) in outputs
    assert world.asked == []


def test_credentials_without_integrity_are_401(world, alice):
    """The first step comes first: nothing that is not signed counts."""
    alice.greet(now=0)
    outputs = world.deliver(bare(Method.ALLOCATE, *alice.credentials()), HERE, 0)
    assert refused(outputs) == 401


def test_400_is_paid_from_the_rate_of_its_source(world, alice):
    alice.greet(now=0)
    world.rate_limit.left = 0
    assert silent(alice.allocate(credentials=changed(alice.credentials(), without=[REALM])))


# -- third step: bid-down -----------------------------------------------------------------------------------

OFFERED = (SHA256_VALUE, MD5_VALUE)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(OFFERED, None, id="none chosen"),
        pytest.param(None, SHA256_VALUE, id="list stripped"),
        pytest.param(None, MD5_VALUE, id="list stripped, MD5"),
        pytest.param((), MD5_VALUE, id="list emptied"),
        pytest.param((MD5_VALUE,), MD5_VALUE, id="only MD5 left"),
        pytest.param((SHA256_VALUE,), SHA256_VALUE, id="only SHA-256 left"),
        pytest.param((MD5_VALUE, SHA256_VALUE), SHA256_VALUE, id="order changed"),
        pytest.param((MD5_VALUE, SHA256_VALUE), MD5_VALUE, id="order changed, MD5"),
        pytest.param((*OFFERED, MD5_VALUE), MD5_VALUE, id="one repeated"),
        pytest.param((*OFFERED, PasswordAlgorithmValue(3)), SHA256_VALUE, id="one added"),
        pytest.param(
            (PasswordAlgorithmValue(SHA256, b"parm"), MD5_VALUE), SHA256_VALUE, id="parameters added"
        ),
        pytest.param(OFFERED, PasswordAlgorithmValue(3), id="unknown chosen"),
        pytest.param(OFFERED, PasswordAlgorithmValue(0), id="reserved chosen"),
        pytest.param(OFFERED, PasswordAlgorithmValue(SHA256, b"parm"), id="parameters chosen"),
    ],
)
def test_what_was_offered_must_come_back_as_it_was(world, offered, chosen):
    client = world.client(algorithm=chosen.algorithm if chosen else SHA256)
    client.greet(now=0)
    added = [] if offered is None else [(PASSWORD_ALGORITHMS, offered)]
    added += [] if chosen is None else [(PASSWORD_ALGORITHM, chosen)]
    pairs = changed(client.credentials(), *added, without=[PASSWORD_ALGORITHMS, PASSWORD_ALGORITHM])
    outputs = client.allocate(credentials=pairs)
    assert refused(outputs) == 400
    assert AuthenticationFailed(HERE, AuthenticationFailure.BID_DOWN) in outputs
    assert world.asked == []


def test_without_either_attribute_the_key_is_md5(world, alice):
    """First check of the third step: a client of RFC 5389 goes on as though it had named MD5."""
    assert alice.algorithm is None
    accepted(alice.allocate())


@pytest.mark.parametrize(
    "cookie",
    ["obMatJos2AAAA", "obMatJos2AAAB", "obMatJos2AAAC", "obMatJos2////", "obmatjos2AAAD", ""],
    ids=["all cleared", "anonymity cleared", "algorithms cleared", "all set", "no cookie", "cut off"],
)
def test_a_changed_cookie_is_a_foreign_nonce(world, cookie):
    """Section 9.2.1: stripping features on the way changes the nonce, and the nonce proves itself."""
    client = world.client(algorithm=None)
    client.greet(now=0)
    assert client.nonce.startswith("obMatJos2AAAD")
    client.nonce = cookie + client.nonce[13:]
    assert refused(client.allocate()) == 438
    assert world.asked == []


# -- fourth step: the user ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "username", ["", "nobody", "Alice", "alice ", "alice\0", "al\u200bice", "\u0007", "x" * 508]
)
def test_nobody_of_that_name(world, alice, username):
    alice.greet(now=0)
    outputs = alice.allocate(credentials=changed(alice.credentials(), (USERNAME, username)))
    assert refused(outputs) == 401
    assert {kind for kind, _ in tlvs(reply(outputs).data)} == {0x0009, 0x0014, 0x0015, 0x8002}
    assert AuthenticationFailed(HERE, AuthenticationFailure.UNKNOWN_USER) in outputs


@pytest.mark.parametrize("realm", ["", "example.com", "EXAMPLE.ORG", "example.org "])
def test_a_realm_that_is_not_ours(world, alice, realm):
    alice.greet(now=0)
    alice.realm = realm
    outputs = alice.allocate()
    assert refused(outputs) == 401
    assert answer(outputs).get(REALM) == "example.org"
    assert world.asked == []


def test_a_hash_of_nobody(world, modern):
    modern.greet(now=0)
    assert refused(modern.allocate(credentials=changed(modern.credentials(), (USERHASH, bytes(32))))) == 401


def test_a_hash_for_another_realm(world, modern):
    modern.greet(now=0)
    hashed = dict(modern.credentials())[USERHASH]
    modern.realm = "example.com"
    assert dict(modern.credentials())[USERHASH] != hashed
    assert refused(modern.allocate()) == 401


# -- fifth step: the integrity ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, MD5, SHA256])
def test_a_wrong_password(world, algorithm):
    client = world.client(algorithm=algorithm)
    client.password = "wonderlamd"
    outputs = client.allocate()
    assert refused(outputs) == 401
    assert AuthenticationFailed(HERE, AuthenticationFailure.WRONG_PASSWORD) in outputs
    assert world.remnants() == {}


@pytest.mark.parametrize("algorithm", [None, SHA256])
def test_no_byte_may_change(world, algorithm):
    client = world.client(algorithm=algorithm)
    client.greet(now=0)
    request = client.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), (SOFTWARE, "four"))
    for position in range(len(request)):
        outputs = world.deliver(
            request[:position] + bytes([request[position] ^ 0x01]) + request[position + 1 :], HERE, 0
        )
        assert silent(outputs) or refused(outputs) in (400, 401, 438), position
    assert world.remnants() == {}


def test_the_key_of_the_other_algorithm_does_not_do(world):
    client = world.client(algorithm=SHA256)
    client.greet(now=0)
    client.algorithm = None  # the MD5 key
    pairs = [*client.credentials(), (PASSWORD_ALGORITHMS, OFFERED), (PASSWORD_ALGORITHM, SHA256_VALUE)]
    assert refused(client.allocate(credentials=pairs, integrity=Integrity.SHA256)) == 401


def test_where_both_are_there_sha256_decides(world, alice):
    """Section 9.2.4: if MESSAGE-INTEGRITY-SHA256 is present, it is what is compared."""
    alice.greet(now=0)
    unsigned = bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), *alice.credentials())
    sha1, sha256 = 0x0008, 0x001C
    wrong_sha1 = seal(seal(unsigned, b"wrong", sha1), alice.key, sha256)
    wrong_sha256 = seal(seal(unsigned, alice.key, sha1), b"wrong", sha256)
    assert refused(world.deliver(wrong_sha256, HERE, 0)) == 401
    accepted(world.deliver(wrong_sha1, HERE, 0))


@pytest.mark.parametrize("size", [16, 20, 24, 28])
def test_a_truncated_sha256_is_not_accepted(world, size):
    """Section 14.6: the full 32 bytes unless the usage allows truncation, and RFC 8656 does not."""
    client = world.client(algorithm=SHA256)
    client.greet(now=0)
    unsigned = bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), *client.credentials())
    assert refused(world.deliver(seal(unsigned, client.key, 0x001C, size), HERE, 0)) in (400, 401)


@pytest.mark.parametrize("size", [0, 4, 12, 18, 36])
def test_a_sha256_of_impossible_length_is_400(world, size):
    """Section 14.6: at least 16 and at most 32 bytes, a multiple of 4."""
    client = world.client(algorithm=SHA256)
    client.greet(now=0)
    unsigned = bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), *client.credentials())
    data = unsigned + tlv(0x001C, bytes(size))
    data = data[:2] + (len(data) - 20).to_bytes(2, "big") + data[4:]
    assert refused(world.deliver(data, HERE, 0)) == 400


def test_what_follows_the_integrity_is_ignored(world, alice):
    """Section 14.5: anybody on the way may have appended it. A LIFETIME, and what would be a 420."""
    alice.greet(now=0)
    unsigned = bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP), *alice.credentials())
    data = seal(unsigned, alice.key)
    data += tlv(LIFETIME.type, (3600).to_bytes(4, "big")) + tlv(0x7F00, b"?")
    data = data[:2] + (len(data) - 20).to_bytes(2, "big") + data[4:]
    assert accepted(world.deliver(data, HERE, 0)).get(LIFETIME) == 600


# -- sixth step: the nonce ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", ["", "x", "obMatJos2AAAD", "obMatJos2AAAD" + "A" * 15, "é" * 20, "=" * 28])
def test_a_nonce_that_is_not_ours_is_438(world, alice, nonce):
    alice.greet(now=0)
    fresh, alice.nonce = alice.nonce, nonce
    outputs = alice.ask(Method.ALLOCATE, now=0, credentials=changed(alice.credentials(), (NONCE, nonce)))
    assert refused(outputs) == 438
    message = answer(outputs)
    # MUST include NONCE (a valid one), REALM and PASSWORD-ALGORITHMS; SHOULD NOT name the user.
    assert {kind for kind, _ in tlvs(reply(outputs).data)} == {0x0009, 0x0014, 0x0015, 0x8002}
    assert message.get(NONCE) == fresh
    assert message.get(REALM) == "example.org"
    assert AuthenticationFailed(HERE, AuthenticationFailure.STALE_NONCE) in outputs


def test_with_the_new_nonce_of_a_438_the_client_goes_on(world, alice):
    alice.greet(now=0)
    late = 2 * 3600
    message = answer(alice.allocate(now=late))
    assert message.get(NONCE) != alice.nonce
    alice.nonce = message.get(NONCE)
    accepted(alice.allocate(now=late))


def test_a_stale_nonce_does_not_end_the_allocation(world, alice):
    alice.allocate((LIFETIME, 3600), now=0)
    alice.refresh(3600, now=3000)
    outputs = alice.refresh(600, now=5000)
    assert refused(outputs) == 438
    alice.nonce = answer(outputs).get(NONCE)
    accepted(alice.refresh(600, now=5000))


def test_the_nonce_of_another_address_is_438(world, alice, bob):
    alice.greet(now=0)
    bob.greet(now=0)
    bob.nonce = alice.nonce
    assert refused(bob.allocate()) == 438


def test_an_overheard_request_is_of_no_use_elsewhere(world, alice):
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP))
    assert refused(world.deliver(request, ELSEWHERE, 0)) == 438
    assert world.remnants() == {}


def test_a_flood_without_our_nonce_never_reaches_the_directory(world, alice):
    alice.greet(now=0)
    alice.nonce = "obMatJos2AAAD" + "A" * 15
    for _ in range(100):
        assert not only(alice.allocate(), LookUpKey)
    assert world.asked == []
    assert world.remnants() == {}


# -- after authentication -----------------------------------------------------------------------------------


def test_unknown_required_attributes_are_named_to_users_only(world, alice):
    """RFC 8489 section 6.3: unknown attributes are looked at once authentication is done."""
    unknown = Attribute.opaque(0x7F00, "?"), b"x"
    assert refused(world.deliver(bare(Method.ALLOCATE, unknown), HERE, 0)) == 401
    outputs = alice.allocate(unknown)
    assert refused(outputs) == 420
    assert answer(outputs).get(UNKNOWN_ATTRIBUTES) == (0x7F00,)
    assert sealed_with(reply(outputs).data, alice.key) == {"sha1"}


@pytest.mark.parametrize("method", [Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND])
def test_420_comes_before_437(alice, method):
    assert refused(alice.ask(method, (Attribute.opaque(0x7F00, "?"), b""), now=0)) == 420


def test_known_but_unexpected_attributes_are_ignored(alice):
    """RFC 8489 section 6.3: SHOULD be ignored."""
    from stunwire import CHANNEL_NUMBER, DATA, XOR_MAPPED_ADDRESS, XOR_PEER_ADDRESS

    stray = (CHANNEL_NUMBER, 0x4000), (DATA, b"x"), (XOR_MAPPED_ADDRESS, PEER), (XOR_PEER_ADDRESS, PEER)
    accepted(alice.allocate(*stray))


def test_of_two_equal_attributes_the_first_counts(alice):
    """RFC 8489 section 14: only the first is looked at."""
    message = accepted(alice.allocate((LIFETIME, 1200), (LIFETIME, 1800)))
    assert message.get(LIFETIME) == 1200
