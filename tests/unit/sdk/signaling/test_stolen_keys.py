"""What somebody with a stolen identity can and cannot do; and what each signature and key depends on."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from peerpath.identity import Identity
from peerpath.signaling import SignalingError
from peerpath.signaling.agreement import agree, agreement_private_key, public_bytes
from peerpath.signaling.envelope import Content, Envelope, Form
from peerpath.signaling.sealing import Attempt, offer_key, seal, session_keys, unseal
from unit.sdk.signaling.pair import Pair


@pytest.fixture
def pair():
    return Pair()


class Thief:
    """Has Bob's private key and every message that travels, but nobody else's identity."""

    def __init__(self, pair: Pair) -> None:
        self.bob = pair.bob
        self.offer = Envelope.decode(pair.offer)
        self.agreed = agree(agreement_private_key(pair.bob), self.offer.ephemeral)
        self.key = offer_key(self.agreed, self.offer.attempt, self.offer.ephemeral, pair.bob.public_key)
        inside = unseal(self.key, self.offer)
        sent_at_ms = int.from_bytes(inside[32:40], "big")
        self.attempt = Attempt(
            self.offer.attempt,
            pair.alice.public_key,
            pair.bob.public_key,
            self.offer.ephemeral,
            sent_at_ms,
        )
        self.inside = inside

    def early(self, content: bytes, signature: bytes) -> bytes:
        return seal(self.key, Form.EARLY, self.offer.attempt, b"", signature + content)

    def answer(self, content: bytes, signer: Identity) -> bytes:
        ephemeral = X25519PrivateKey.generate()
        own = public_bytes(ephemeral)
        keys = session_keys(self.agreed, agree(ephemeral, self.offer.ephemeral), self.attempt, own)
        signature = signer.sign(self.attempt.transcript(Form.ANSWER, own, content))
        return seal(keys.from_listener, Form.ANSWER, self.offer.attempt, own, signature + content)


def test_the_thief_of_these_tests_reads_offers_and_can_be_bob(pair):
    thief = Thief(pair)
    assert b'{"hello":"bob"}' in thief.inside
    assert pair.dialing.open(thief.answer(Content(0, "answer", {}).encode(), pair.bob)) == ("answer", {})


def test_a_stolen_identity_opens_nothing_from_the_answer_on(pair):
    answering = pair.answering()
    answer = answering.seal("answer", {})
    pair.dialing.open(answer)
    thief = Thief(pair)
    answer_ephemeral = Envelope.decode(answer).ephemeral
    guesses = [thief.agreed, bytes(32), b""]
    messages = [answer, answering.seal("note", {}), pair.dialing.seal("note", {})]
    for by_ephemerals in guesses:
        keys = session_keys(thief.agreed, by_ephemerals, thief.attempt, answer_ephemeral)
        for key in (keys.from_dialer, keys.from_listener, thief.key):
            for message in messages:
                with pytest.raises(SignalingError, match="cannot be opened"):
                    unseal(key, Envelope.decode(message))


def test_a_stolen_identity_of_the_listener_does_not_speak_for_the_dialer(pair):
    answering, thief = pair.answering(), Thief(pair)
    content = Content(1, "early", {}).encode()
    for signature in (bytes(64), Identity.generate().sign(content), thief.inside[40:104]):
        with pytest.raises(SignalingError, match="not signed by"):
            answering.open(thief.early(content, signature))


def test_the_content_of_a_signed_offer_cannot_be_exchanged(pair):
    thief = Thief(pair)
    inside = thief.inside[:104] + Content(0, "offer", {"hello": "mallory"}).encode()
    changed = seal(thief.key, Form.OFFER, thief.offer.attempt, thief.offer.ephemeral, inside)
    with pytest.raises(SignalingError, match="not signed by"):
        pair.answering(changed)


def test_who_can_compute_the_keys_and_has_not_the_identity_cannot_answer(pair):
    content = Content(0, "answer", {}).encode()
    with pytest.raises(SignalingError, match="not signed by"):
        pair.dialing.open(Thief(pair).answer(content, Identity.generate()))


ONE, OTHER = Identity.generate().public_key, Identity.generate().public_key
ATTEMPT = Attempt(b"a" * 16, ONE, ONE, b"e" * 32, 1)
OTHER_ATTEMPTS = [
    replace(ATTEMPT, id=b"b" * 16),
    replace(ATTEMPT, dialer=OTHER),
    replace(ATTEMPT, listener=OTHER),
    replace(ATTEMPT, ephemeral=b"f" * 32),
]


def test_a_signature_is_for_one_form_attempt_key_time_and_content():
    transcripts = [ATTEMPT.transcript(Form.ANSWER, b"x" * 32, b"c")]
    transcripts += [attempt.transcript(Form.ANSWER, b"x" * 32, b"c") for attempt in OTHER_ATTEMPTS]
    transcripts += [
        replace(ATTEMPT, sent_at_ms=2).transcript(Form.ANSWER, b"x" * 32, b"c"),
        ATTEMPT.transcript(Form.EARLY, b"", b"c"),
        ATTEMPT.transcript(Form.OFFER, b"", b"c"),
        ATTEMPT.transcript(Form.ANSWER, b"y" * 32, b"c"),
        ATTEMPT.transcript(Form.ANSWER, b"x" * 32, b"d"),
    ]
    assert len(set(transcripts)) == len(transcripts)
    assert transcripts[0] == b"".join(
        (
            b"peerpath signaling 1 signature\0\x03",
            b"a" * 16,
            ONE.raw,
            ONE.raw,
            b"e" * 32,
            b"x" * 32,
            bytes(7) + b"\x01",
            b"c",
        )
    )


def test_session_keys_depend_on_everything_that_was_agreed():
    inputs = [(b"s" * 32, b"e" * 32, attempt, b"x" * 32) for attempt in [ATTEMPT, *OTHER_ATTEMPTS]]
    inputs += [
        (b"t" * 32, b"e" * 32, ATTEMPT, b"x" * 32),
        (b"s" * 32, b"f" * 32, ATTEMPT, b"x" * 32),
        (b"s" * 32, b"e" * 32, ATTEMPT, b"y" * 32),
    ]
    keys = [
        key
        for given in inputs
        for made in [session_keys(*given)]
        for key in (made.from_dialer, made.from_listener)
    ]
    assert len(set(keys)) == 2 * len(inputs)
