"""TurnClient against answers written by hand: what a server may say, and must not get away with."""

import pytest
from peerpath.turn import (
    Allocated,
    ChannelBound,
    ChannelRefused,
    Ended,
    EndReason,
    LongTermCredentials,
    PeerData,
    PeerUnreachable,
    PermissionInstalled,
    PermissionRefused,
    Refused,
    Transmit,
    TryAlternate,
    TurnClient,
)
from peerpath.turn.client import BOTH_FAMILIES
from stunwire import (
    ALTERNATE_DOMAIN,
    ALTERNATE_SERVER,
    CHANNEL_NUMBER,
    DATA,
    ICMP,
    LIFETIME,
    NONCE,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    Attribute,
    ErrorCode,
    IcmpValue,
    Integrity,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    PasswordAlgorithmValue,
    SecurityFeatures,
    TransportAddress,
    encode_channel_data,
    long_term_key,
    nonce_cookie,
)

CREDENTIALS = LongTermCredentials("alice", "wonderland")
REALM_NAME = "relay.test"
RELAYED = TransportAddress("203.0.113.5", 50000)
MAPPED = TransportAddress("192.0.2.7", 41000)
PEER = TransportAddress("198.51.100.9", 4000)
OTHER = TransportAddress("198.51.100.10", 4000)
SHA256 = PasswordAlgorithmValue(PasswordAlgorithm.SHA256)
MD5 = PasswordAlgorithmValue(PasswordAlgorithm.MD5)
BOTH = (SHA256, MD5)
FULL_COOKIE = nonce_cookie(SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY)
ALGORITHMS_COOKIE = nonce_cookie(SecurityFeatures.PASSWORD_ALGORITHMS)


def only_request(outputs):
    [request] = [Message.decode(each.data) for each in outputs if isinstance(each, Transmit)]
    return request


def said(outputs):
    return [output for output in outputs if not isinstance(output, Transmit)]


def challenge(request, nonce="nonce", algorithms=None, code=401, realm=REALM_NAME):
    message = Message.error_to(request, code)
    if realm is not None:
        message.add(REALM, realm)
    if nonce is not None:
        message.add(NONCE, nonce)
    if algorithms is not None:
        message.add(PASSWORD_ALGORITHMS, algorithms)
    return message.encode()


def key_for(request):
    algorithm = PasswordAlgorithm.SHA256 if request.integrity is Integrity.SHA256 else PasswordAlgorithm.MD5
    return long_term_key("alice", REALM_NAME, "wonderland", algorithm)


def sealed(request, message, key=None):
    if request.integrity is None:
        return message.encode()
    return message.encode(key or key_for(request), request.integrity)


def granted(request, lifetime=600, **wrong):
    message = Message.success_to(request)
    message.add(XOR_RELAYED_ADDRESS, RELAYED).add(XOR_MAPPED_ADDRESS, MAPPED).add(LIFETIME, lifetime)
    return sealed(request, message, **wrong)


def refused(request, code):
    return sealed(request, Message.error_to(request, code))


def challenged_client(nonce="nonce", algorithms=None, **options):
    """A client whose first request was challenged, and the signed request that followed."""
    options.setdefault("reliable", False)
    client = TurnClient(CREDENTIALS, **options)
    first = only_request(client.start(0))
    return client, only_request(client.receive(challenge(first, nonce, algorithms), 0))


def allocated_client(**options):
    client, request = challenged_client(**options)
    assert client.receive(granted(request), 0) == [Allocated((RELAYED,), MAPPED, 600)]
    return client


def test_an_address_that_is_none_is_not_taken_for_one_of_the_relay():
    client, request = challenged_client()
    message = Message.success_to(request)
    message.add(XOR_RELAYED_ADDRESS, TransportAddress("0.0.0.0", 0)).add(XOR_RELAYED_ADDRESS, RELAYED)
    message.add(XOR_MAPPED_ADDRESS, MAPPED).add(LIFETIME, 600)
    assert client.receive(sealed(request, message), 0) == [Allocated((RELAYED,), MAPPED, 600)]


# -- the first request -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("families", "requested", "additional"),
    [
        (None, None, False),
        ([AddressFamily.IPV4], None, False),
        ([AddressFamily.IPV6], AddressFamily.IPV6, False),
        ([AddressFamily.IPV4, AddressFamily.IPV6], None, True),
    ],
)
def test_the_families_asked_for(families, requested, additional):
    request = only_request(TurnClient(CREDENTIALS, reliable=False, families=families).start(0))

    assert request.get(REQUESTED_TRANSPORT) == 17
    assert request.get(REQUESTED_ADDRESS_FAMILY) == requested
    assert (0x8000 in dict(request.attributes)) is additional


@pytest.mark.parametrize("code", [400, 420, 440, 508])
def test_a_server_that_does_not_want_to_give_both_families_is_asked_for_one(code):
    client, request = challenged_client(families=BOTH_FAMILIES)

    again = only_request(client.receive(refused(request, code), 0))
    assert 0x8000 not in dict(again.attributes)
    assert client.receive(granted(again), 0) == [Allocated((RELAYED,), MAPPED, 600)]


@pytest.mark.parametrize("code", [403, 486])
def test_other_refusals_of_both_families_hold_for_one(code):
    client, request = challenged_client(families=BOTH_FAMILIES)

    assert said(client.receive(refused(request, code), 0))[-1] == Ended(EndReason.REFUSED)


def test_a_lifetime_is_asked_for_only_where_it_is_not_the_usual_one():
    def request(**options):
        return only_request(TurnClient(CREDENTIALS, reliable=False, **options).start(0))

    assert LIFETIME not in request()
    assert request(lifetime=3600).get(LIFETIME) == 3600


def test_it_can_be_started_once():
    client = TurnClient(CREDENTIALS, reliable=False)
    client.start(0)
    with pytest.raises(RuntimeError, match="called once"):
        client.start(1)


def test_a_server_without_authentication_is_taken_at_its_word():
    client = TurnClient(CREDENTIALS, reliable=False)
    request = only_request(client.start(0))

    assert client.receive(granted(request), 0) == [Allocated((RELAYED,), MAPPED, 600)]


# -- RFC 8489 section 9.2.5 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nonce", "algorithms", "integrity", "hashed"),
    [
        ("nonce", None, Integrity.SHA1, False),
        (nonce_cookie(SecurityFeatures.NONE) + "n", None, Integrity.SHA1, False),
        (nonce_cookie(SecurityFeatures.USERNAME_ANONYMITY) + "n", None, Integrity.SHA1, True),
        (ALGORITHMS_COOKIE + "n", BOTH, Integrity.SHA256, False),
        (FULL_COOKIE + "n", BOTH, Integrity.SHA256, True),
        # MESSAGE-INTEGRITY-SHA256 even with the MD5 key: the attribute says that the server knows it.
        (ALGORITHMS_COOKIE + "n", (MD5,), Integrity.SHA256, False),
        (ALGORITHMS_COOKIE + "n", (PasswordAlgorithmValue(99), MD5), Integrity.SHA256, False),
    ],
)
def test_what_the_challenge_offers_is_used(nonce, algorithms, integrity, hashed):
    _, signed = challenged_client(nonce, algorithms)

    assert signed.integrity is integrity
    assert (USERHASH in signed, USERNAME in signed) == (hashed, not hashed)
    assert signed.get(REALM) == REALM_NAME
    assert signed.get(NONCE) == nonce
    assert signed.get(PASSWORD_ALGORITHMS) == algorithms


@pytest.mark.parametrize(
    ("nonce", "algorithms", "realm", "complaint"),
    [
        (ALGORITHMS_COOKIE + "n", None, REALM_NAME, "took the password algorithms out"),
        (ALGORITHMS_COOKIE + "n", (PasswordAlgorithmValue(99),), REALM_NAME, "no password algorithm"),
        (None, None, REALM_NAME, "no realm or nonce"),
        ("nonce", None, None, "no realm or nonce"),
    ],
)
def test_a_challenge_that_cannot_be_met_is_the_end(nonce, algorithms, realm, complaint):
    client = TurnClient(CREDENTIALS, reliable=False)
    first = only_request(client.start(0))

    [refusal, end] = client.receive(challenge(first, nonce, algorithms, realm=realm), 0)
    assert refusal.code == 401
    assert complaint in refusal.reason
    assert end == Ended(EndReason.REFUSED)


def test_another_realm_is_worth_another_try_and_the_same_one_is_not():
    client, request = challenged_client()
    again = only_request(client.receive(challenge(request, realm="other"), 0))
    assert again.get(REALM) == "other"

    assert said(client.receive(challenge(again, realm="other"), 0))[1] == Ended(EndReason.REFUSED)


def test_a_server_that_never_has_enough_is_given_up():
    client, request = challenged_client()
    for number in range(10):
        outputs = client.receive(challenge(request, f"nonce {number}", code=438), 0)
        if said(outputs):
            break
        request = only_request(outputs)
    assert outputs[0].code == ErrorCode.STALE_NONCE
    assert number < 5


def test_after_sha256_was_proven_nothing_less_is_accepted():
    client, request = challenged_client(FULL_COOKIE + "n", BOTH)
    client.receive(granted(request), 0)
    refresh = only_request(client.handle_timeout(540))

    # Somebody on the way would like to see SHA-1: as if it had never come.
    assert client.receive(challenge(refresh, "nonce", code=438), 540) == []
    assert client.receive(challenge(refresh, "nonce", code=401), 540) == []
    fresh = only_request(client.receive(challenge(refresh, FULL_COOKIE + "2", BOTH, code=438), 540))
    assert fresh.get(NONCE) == FULL_COOKIE + "2"
    assert fresh.integrity is Integrity.SHA256


def test_a_forged_answer_is_dropped_over_udp_and_the_true_one_still_counts():
    client, request = challenged_client()

    assert client.receive(granted(request, key=b"x" * 16), 0) == []
    assert client.receive(Message.success_to(request).encode(), 0) == []
    assert client.receive(granted(request), 0) == [Allocated((RELAYED,), MAPPED, 600)]


def test_nothing_but_forged_answers_is_called_what_it_is():
    client, request = challenged_client()
    client.receive(granted(request, key=b"x" * 16), 0)
    while client.next_deadline() is not None:
        outputs = client.handle_timeout(client.next_deadline())

    assert outputs == [Ended(EndReason.INTEGRITY_VIOLATED)]


def test_a_forged_answer_ends_it_over_a_stream():
    client, request = challenged_client(reliable=True)

    assert client.receive(granted(request, key=b"x" * 16), 0) == [Ended(EndReason.INTEGRITY_VIOLATED)]


@pytest.mark.parametrize("code", [400, 403, 437, 486, 508])
def test_an_unsigned_refusal_of_a_signed_request_is_nobodys_word(code):
    client, request = challenged_client()

    assert client.receive(Message.error_to(request, code).encode(), 0) == []
    assert client.receive(refused(request, code), 0)[0].code == code


def test_an_answer_with_unknown_required_attributes_is_a_failure():
    client, request = challenged_client()
    strange = Attribute.opaque(0x7F00, "STRANGE")
    message = Message.success_to(request).add(strange, b"?")

    assert client.receive(sealed(request, message), 0)[0].code == ErrorCode.UNKNOWN_ATTRIBUTE


# -- refusals --------------------------------------------------------------------------------------------


def test_437_asks_for_a_new_port():
    client, request = challenged_client()

    assert client.receive(refused(request, 437), 0)[-1] == Ended(EndReason.NEW_FIVE_TUPLE_NEEDED)


@pytest.mark.parametrize("domain", [None, "turn2.example.org"])
def test_300_names_another_server(domain):
    client = TurnClient(CREDENTIALS, reliable=False)
    message = Message.error_to(only_request(client.start(0)), 300).add(ALTERNATE_SERVER, OTHER)
    if domain is not None:
        message.add(ALTERNATE_DOMAIN, domain)

    assert client.receive(message.encode(), 0) == [TryAlternate(OTHER, domain), Ended(EndReason.REDIRECTED)]


def test_silence_ends_it_when_the_rfc_says():
    client = TurnClient(CREDENTIALS, reliable=False)
    client.start(0)
    moments = []
    while (deadline := client.next_deadline()) is not None:
        moments.append(deadline)
        outputs = client.handle_timeout(deadline)

    assert moments == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 39.5]
    assert outputs == [Ended(EndReason.NO_ANSWER)]


def test_a_refused_refresh_is_tried_again_until_the_allocation_expires():
    client = allocated_client()
    now, codes = 0.0, []
    while (deadline := client.next_deadline()) is not None:
        now = deadline
        for output in client.handle_timeout(now):
            if isinstance(output, Transmit):
                request = Message.decode(output.data)
                if request.method == Method.REFRESH:
                    codes += said(client.receive(refused(request, 486), now))
            else:
                ended = output
    assert ended == Ended(EndReason.EXPIRED)
    assert now == 600
    assert codes == [Refused(486, "Allocation Quota Reached", Method.REFRESH)] * 6


def test_nothing_happens_after_the_end():
    client = allocated_client()
    assert client.disconnected(1) == [Ended(EndReason.DISCONNECTED)]

    assert client.permit([PEER], 2) == client.bind(PEER, 2) == client.send(PEER, b"x", 2) == []
    assert client.close(2) == client.handle_timeout(9999) == client.disconnected(3) == []
    assert client.next_deadline() is None


def test_closing_while_the_allocate_is_under_way_deletes_what_it_brings():
    client, request = challenged_client()
    assert client.close(1) == []

    delete = only_request(client.receive(granted(request), 2))
    assert delete.get(LIFETIME) == 0
    assert client.receive(sealed(delete, Message.success_to(delete)), 3) == [Ended(EndReason.CLOSED)]


def test_closing_before_any_credentials_were_shown_is_the_end():
    client = TurnClient(CREDENTIALS, reliable=False)
    first = only_request(client.start(0))
    assert client.close(1) == [Ended(EndReason.CLOSED)]
    assert client.receive(challenge(first), 2) == []


def test_the_deletion_is_repeated_and_takes_a_new_nonce():
    client = allocated_client()
    [lost] = client.close(1)
    assert client.handle_timeout(1.5) == [lost]
    stale = Message.decode(lost.data)
    delete = only_request(client.receive(challenge(stale, "fresh", code=438), 1.6))
    assert (delete.get(LIFETIME), delete.get(NONCE)) == (0, "fresh")
    assert client.receive(sealed(delete, Message.success_to(delete)), 1.7) == [Ended(EndReason.CLOSED)]


# -- data ------------------------------------------------------------------------------------------------


def data_from(peer, *attributes):
    message = Message(MessageClass.INDICATION, Method.DATA).add(XOR_PEER_ADDRESS, peer)
    for attribute, value in attributes:
        message.add(attribute, value)
    return message.encode()


def permitted_client(**options):
    client = allocated_client(**options)
    request = only_request(client.permit([PEER], 0))
    assert client.receive(sealed(request, Message.success_to(request)), 0) == [PermissionInstalled(PEER.host)]
    return client


def test_data_comes_from_permitted_hosts_only():
    client = permitted_client()

    assert client.receive(data_from(PEER, (DATA, b"hi")), 1) == [PeerData(PEER, b"hi")]
    assert client.receive(data_from(OTHER, (DATA, b"hi")), 1) == []
    assert client.receive(data_from(PEER), 1) == []


def test_icmp_errors_name_the_peer():
    client = permitted_client()

    unreachable = data_from(PEER, (ICMP, IcmpValue(3, 3)))
    assert client.receive(unreachable, 1) == [PeerUnreachable(PEER, 3, 3)]


def test_channel_data_may_overtake_the_answer_to_its_binding():
    client = permitted_client()
    request = only_request(client.bind(PEER, 1))
    channel = request.get(CHANNEL_NUMBER)

    assert client.receive(encode_channel_data(channel, b"early"), 1) == [PeerData(PEER, b"early")]
    assert client.receive(encode_channel_data(channel + 1, b"nobody's"), 1) == []
    assert client.receive(sealed(request, Message.success_to(request)), 1) == [ChannelBound(PEER, channel)]


def test_until_the_channel_is_bound_data_goes_in_send_indications():
    client = permitted_client()
    request = only_request(client.bind(PEER, 1))
    indication = Message.decode(client.send(PEER, b"x", 1)[0].data)
    assert (indication.method, indication.get(DATA)) == (Method.SEND, b"x")

    client.receive(sealed(request, Message.success_to(request)), 1)
    assert client.send(PEER, b"x", 1) == [Transmit(b"\x40\x00\x00\x01x")]


def test_channel_data_is_padded_on_a_stream():
    client = permitted_client(reliable=True)
    request = only_request(client.bind(PEER, 1))
    client.receive(sealed(request, Message.success_to(request)), 1)

    assert client.send(PEER, b"x", 1) == [Transmit(b"\x40\x00\x00\x01x\x00\x00\x00")]


def test_a_refused_channel_leaves_the_permission_to_be_asked_for():
    client = allocated_client()
    request = only_request(client.bind(PEER, 0))
    outputs = client.receive(refused(request, 508), 0)

    assert said(outputs) == [ChannelRefused(PEER, 508)]
    assert only_request(outputs).method == Method.CREATE_PERMISSION


def test_a_refused_host_gets_no_more_data():
    client = allocated_client()
    request = only_request(client.permit([PEER], 0))

    assert client.receive(refused(request, 403), 0) == [PermissionRefused(PEER.host, 403)]
    assert client.send(PEER, b"x", 1) == []


def test_a_scope_and_another_spelling_are_the_same_host():
    client = allocated_client()
    request = only_request(client.permit([PEER.host, PEER, TransportAddress("198.51.100.9%eth0", 7)], 0))

    assert request.get_all(XOR_PEER_ADDRESS) == [TransportAddress("198.51.100.9", 7)]
    with pytest.raises(ValueError, match=r"'peer\.example\.org' is not an IP address"):
        client.permit(["peer.example.org"], 0)


@pytest.mark.parametrize(
    "frame", [b"", b"\x00", b"\x40\x00", b"\x40\x00\x00\x09short", bytes(20), b"\xff" * 40]
)
def test_garbage_is_dropped(frame):
    assert allocated_client().receive(frame, 1) == []


def test_early_calls_of_handle_timeout_do_nothing():
    client = permitted_client()
    assert client.handle_timeout(1) == []


def test_the_password_is_not_shown():
    assert "wonderland" not in repr(CREDENTIALS)
