"""Messages that must not be believed. The exchange goes on after each of them as if it had not come."""

import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from peerpath.identity import Identity, PublicKey
from peerpath.signaling import Answering, Dialing, ReplayGuard, SignalingError
from peerpath.signaling.agreement import agree, agreement_public_key, public_bytes
from peerpath.signaling.envelope import Content, Form
from peerpath.signaling.sealing import Attempt, encode_time, offer_key, seal
from unit.sdk.signaling.pair import NOW, Pair


@pytest.fixture
def pair():
    return Pair()


def refused(opener, data, reason):
    with pytest.raises(SignalingError, match=reason):
        opener.open(data)


def still_talking(pair, answering):
    assert pair.dialing.open(answering.seal("note", {"n": 1})) == ("note", {"n": 1})
    assert answering.open(pair.dialing.seal("note", {"n": 2})) == ("note", {"n": 2})


def from_another_attempt(pair):
    dialing = Dialing(pair.alice, pair.bob.public_key, now=NOW)
    answering = pair.answering(dialing.seal("offer", {}))
    return dialing, answering


# Each: the message to the dialer, made by somebody who may be the peer in another attempt, and the reason.
TO_THE_DIALER = {
    "own offer, reflected": (lambda pair, _: pair.offer, "one that a dialer sends"),
    "own early message, reflected": (lambda pair, _: pair.dialing.seal("e", {}), "one that a dialer sends"),
    "answer of another attempt": (
        lambda pair, _: from_another_attempt(pair)[1].seal("answer", {}),
        "another attempt",
    ),
    "answer of another attempt, under this one's id": (
        lambda pair, _: relabelled(from_another_attempt(pair)[1].seal("answer", {}), pair.dialing.attempt),
        "cannot be opened",
    ),
    "message after an answer that never came": (
        lambda pair, answering: as_form(answering.seal("answer", {}), Form.SESSION),
        "answer to the offer has not arrived",
    ),
    "answer by somebody who is not the peer": (lambda pair, _: stranger_answers(pair), "cannot be opened"),
    "answer with a key of small order": (
        lambda pair, answering: replaced(answering.seal("answer", {}), 18, bytes(32)),
        "anybody could compute",
    ),
    "answer cut short": (lambda pair, answering: answering.seal("answer", {})[:-1], "cannot be opened"),
    "nothing": (lambda pair, _: b"", "too few"),
    "another version": (
        lambda pair, answering: replaced(answering.seal("answer", {}), 0, b"\x02"),
        "version 2",
    ),
    "too long": (lambda pair, answering: answering.seal("answer", {}) + bytes(16384), "more than the 16384"),
}


def relabelled(data, attempt):
    return replaced(data, 2, attempt)


def as_form(data, form):
    return replaced(data, 1, bytes((form,)))


def replaced(data, place, new):
    return data[:place] + new + data[place + len(new) :]


def stranger_answers(pair):
    """Mallory knows everything that travels, and has an identity of her own."""
    mallory = Identity.generate()
    dialing = Dialing(pair.alice, mallory.public_key, now=NOW)
    answering = Answering.open_offer(mallory, dialing.seal("offer", {}), ReplayGuard(), now=NOW)
    return relabelled(answering.seal("answer", {}), pair.dialing.attempt)


@pytest.mark.parametrize("attack", TO_THE_DIALER)
def test_the_dialer_refuses(pair, attack):
    make, reason = TO_THE_DIALER[attack]
    answering = pair.answering()
    refused(pair.dialing, make(pair, answering), reason)
    still_talking(pair, answering)


TO_THE_LISTENER = {
    "own answer, reflected": (
        lambda pair, answering: answering.seal("answer", {}),
        "one that a listener sends",
    ),
    "the offer again": (lambda pair, _: pair.offer, "here before"),
    "early message of another attempt": (
        lambda pair, _: from_another_attempt(pair)[0].seal("early", {}),
        "another attempt",
    ),
    "early message of another attempt, under this one's id": (
        lambda pair, _: relabelled(from_another_attempt(pair)[0].seal("early", {}), pair.dialing.attempt),
        "cannot be opened",
    ),
    "early message, changed": (
        lambda pair, _: flipped(pair.dialing.seal("early", {}), -20),
        "cannot be opened",
    ),
    "early message as one of the session": (
        lambda pair, _: as_form(pair.dialing.seal("early", {}), Form.SESSION),
        "cannot be opened",
    ),
    "another form": (lambda pair, _: as_form(pair.offer, 9), "form 9"),
}


def flipped(data, place):
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("attack", TO_THE_LISTENER)
def test_the_listener_refuses(pair, attack):
    make, reason = TO_THE_LISTENER[attack]
    answering = pair.answering()
    refused(answering, make(pair, answering), reason)
    still_talking(pair, answering)


def test_in_a_session_repeats_and_reordering_are_refused_on_both_sides(pair):
    answering = pair.established()
    for sender, receiver in ((pair.dialing, answering), (answering, pair.dialing)):
        first, second, third = (sender.seal("note", {"n": n}) for n in range(3))
        receiver.open(first)
        refused(receiver, first, "repeated or late")
        receiver.open(third)
        refused(receiver, second, "repeated or late")
        refused(receiver, third, "repeated or late")
    still_talking(pair, answering)


def test_in_a_session_ones_own_messages_do_not_open(pair):
    answering = pair.established()
    refused(pair.dialing, pair.dialing.seal("note", {}), "cannot be opened")
    refused(answering, answering.seal("note", {}), "cannot be opened")
    still_talking(pair, answering)


def test_early_messages_and_answers_open_once(pair):
    early = pair.dialing.seal("early", {})
    answering = pair.answering()
    answering.open(early)
    refused(answering, early, "repeated or late")
    answer = answering.seal("answer", {})
    pair.dialing.open(answer)
    refused(pair.dialing, answer, "repeated or late")
    still_talking(pair, answering)


def test_every_single_changed_bit_of_an_offer_is_noticed(pair):
    for place in range(len(pair.offer)):
        with pytest.raises(SignalingError):
            pair.answering(flipped(pair.offer, place))
    assert pair.answering().kind == "offer"


def test_an_offer_opens_for_nobody_else(pair):
    with pytest.raises(SignalingError, match="meant for somebody else"):
        pair.answering(identity=Identity.generate())


def test_an_answer_is_no_offer(pair):
    with pytest.raises(SignalingError, match="no offer"):
        pair.answering(pair.answering().seal("answer", {}))


def test_a_replayed_offer_is_refused(pair):
    pair.answering()
    with pytest.raises(SignalingError, match="replayed"):
        pair.answering()


def test_whoever_replays_an_offer_to_a_listener_without_memory_cannot_read_the_answer(pair):
    answering = pair.answering(guard=ReplayGuard())
    eavesdropped = answering.seal("answer", {"secret": "address"})
    for identity in (pair.alice, Identity.generate()):
        replayer = Dialing(identity, pair.bob.public_key, now=NOW)
        refused(replayer, relabelled(eavesdropped, replayer.attempt), "cannot be opened")


def test_a_second_device_of_the_peer_does_not_take_over(pair):
    first, second = pair.answering(guard=ReplayGuard()), pair.answering(guard=ReplayGuard())
    pair.dialing.open(first.seal("answer", {}))
    refused(pair.dialing, second.seal("answer", {}), "another device")
    note = pair.dialing.seal("note", {})
    assert first.open(note) == ("note", {})
    refused(second, note, "cannot be opened")


def test_nobody_can_be_dialed_under_a_key_that_nobody_holds(pair):
    with pytest.raises(SignalingError, match="cannot be dialed"):
        Dialing(pair.alice, PublicKey(bytes(32)), now=NOW)


def forged_offer(pair, *, dialer, signer, content=None, listener=None):
    """An offer to Bob whose inside says `dialer` and is signed by `signer` for `listener`."""
    ephemeral, attempt = X25519PrivateKey.generate(), bytes(16)
    bob = pair.bob.public_key
    content = Content(0, "offer", {}).encode() if content is None else content
    facts = Attempt(attempt, dialer.public_key, listener or bob, public_bytes(ephemeral), int(NOW * 1000))
    signature = signer.sign(facts.transcript(Form.OFFER, b"", content))
    key = offer_key(agree(ephemeral, agreement_public_key(bob)), attempt, facts.ephemeral, bob)
    inside = dialer.public_key.raw + encode_time(facts.sent_at_ms) + signature + content
    return seal(key, Form.OFFER, attempt, facts.ephemeral, inside)


def test_the_forger_of_these_tests_makes_good_offers_too(pair):
    assert pair.answering(forged_offer(pair, dialer=pair.alice, signer=pair.alice)).kind == "offer"


def test_nobody_dials_in_the_name_of_somebody_else(pair):
    with pytest.raises(SignalingError, match="not signed by"):
        pair.answering(forged_offer(pair, dialer=pair.alice, signer=Identity.generate()))


def test_an_offer_to_somebody_else_cannot_be_passed_on(pair):
    """Carol, whom Alice dials, seals Alice's signed offer to Bob."""
    carol = Identity.generate().public_key
    with pytest.raises(SignalingError, match="not signed by"):
        pair.answering(forged_offer(pair, dialer=pair.alice, signer=pair.alice, listener=carol))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut short"),
        (struct.pack(">IB", 0, 5) + b"off", "no kind"),
        (struct.pack(">IB", 0, 0) + b"{}", "no kind"),
        (struct.pack(">IB", 0, 3) + b"a\nb{}", "no kind"),
        (struct.pack(">IB", 0, 1) + b"a", "no JSON"),
        (struct.pack(">IB", 0, 1) + b"a[]", "no object"),
        (struct.pack(">IB", 0, 1) + b'a{"a":NaN}', "no JSON"),
        (struct.pack(">IB", 0, 1) + b"a" + b'{"a":' * 1500 + b"1" + b"}" * 1500, "no JSON"),
        (struct.pack(">IB", 0, 1) + b'a{"a":' + b"9" * 5000 + b"}", "no JSON"),
        (struct.pack(">IB", 0, 1) + b"a\xff\xfe{\x00}\x00", "no JSON"),
        (struct.pack(">IB", 0, 1) + b'a{"a":"' + b"x" * 12288 + b'"}', "more than 12288"),
    ],
)
def test_a_dialer_of_good_standing_who_says_nonsense_is_refused(pair, content, reason):
    with pytest.raises(SignalingError, match=reason):
        pair.answering(forged_offer(pair, dialer=pair.alice, signer=pair.alice, content=content))
