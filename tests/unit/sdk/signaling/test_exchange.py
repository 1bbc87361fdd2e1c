"""What goes well: offer, answer, and everything around and after them."""

import pytest
from peerpath.identity import Identity
from peerpath.signaling import Answering, Dialing, ReplayGuard, Route
from peerpath.signaling.envelope import MAX_BODY_BYTES, Envelope, Form
from unit.sdk.signaling.pair import NOW, Pair


@pytest.fixture
def pair():
    return Pair()


def test_an_offer_says_who_dials_and_what(pair):
    answering = pair.answering()
    assert answering.peer == pair.alice.public_key
    assert answering.attempt == pair.dialing.attempt
    assert (answering.kind, answering.body) == ("offer", {"hello": "bob"})


def test_an_exchange_goes_both_ways_many_times(pair):
    answering = pair.answering()
    for number in range(5):
        body = {"number": number, "text": "gruß 👋"}
        assert pair.dialing.open(answering.seal("candidate", body)) == ("candidate", body)
        assert answering.open(pair.dialing.seal("candidate", body)) == ("candidate", body)


def test_the_dialer_can_go_on_before_the_answer_comes(pair):
    early = [pair.dialing.seal("candidate", {"n": n}) for n in range(3)]
    answering = pair.answering()
    assert [answering.open(data)[1]["n"] for data in early] == [0, 1, 2]
    assert pair.dialing.open(answering.seal("answer", {})) == ("answer", {})


def test_messages_that_cross_are_opened(pair):
    answering = pair.answering()
    early = pair.dialing.seal("candidate", {})
    answer = answering.seal("answer", {})
    assert pair.dialing.open(answer) == ("answer", {})
    assert answering.open(early) == ("candidate", {})


def test_a_lost_answer_is_made_up_by_the_next_message(pair):
    answering = pair.answering()
    answering.seal("answer", {"lost": True})
    assert pair.dialing.open(answering.seal("candidate", {"n": 1})) == ("candidate", {"n": 1})
    assert answering.open(pair.dialing.seal("candidate", {"n": 2})) == ("candidate", {"n": 2})


def test_gaps_are_tolerated_in_both_directions(pair):
    answering = pair.established()
    for _ in range(3):
        answering.seal("lost", {})
        pair.dialing.seal("lost", {})
    assert pair.dialing.open(answering.seal("note", {}))[0] == "note"
    assert answering.open(pair.dialing.seal("note", {}))[0] == "note"


def test_once_both_have_the_keys_nothing_is_signed_any_more(pair):
    answering = pair.established()
    for sender in (pair.dialing, answering):
        assert Envelope.decode(sender.seal("note", {})).form is Form.SESSION


def test_outsiders_see_the_attempt_and_whether_it_is_an_offer(pair):
    answering = pair.answering()
    assert Route.of(pair.offer) == Route(pair.dialing.attempt, True)
    assert Route.of(pair.dialing.seal("candidate", {})) == Route(pair.dialing.attempt, False)
    assert Route.of(answering.seal("answer", {})) == Route(pair.dialing.attempt, False)


def test_neither_identity_nor_content_shows(pair):
    answering = pair.answering()
    for data in (pair.offer, pair.dialing.seal("early", {}), answering.seal("answer", {"hello": "alice"})):
        for secret in (pair.alice.public_key.raw, pair.bob.public_key.raw, b"hello", b"early", b"answer"):
            assert secret not in data


def test_an_identity_can_dial_another_device_of_itself():
    identity = Identity.generate()
    dialing = Dialing(identity, identity.public_key, now=NOW)
    answering = Answering.open_offer(identity, dialing.seal("offer", {}), ReplayGuard(), now=NOW)
    assert dialing.open(answering.seal("answer", {})) == ("answer", {})


def test_every_attempt_is_another():
    pairs = [Pair() for _ in range(20)]
    assert len({pair.dialing.attempt for pair in pairs}) == 20


def test_a_body_of_the_greatest_size_passes_in_every_form(pair):
    body = {"b": "x" * (MAX_BODY_BYTES - len('{"b":""}'))}
    dialing = Dialing(pair.alice, pair.bob.public_key, now=NOW)
    answering = pair.answering(dialing.seal("offer", body))
    assert answering.body == body
    assert answering.open(dialing.seal("early", body)) == ("early", body)
    for _ in range(2):
        assert dialing.open(answering.seal("note", body)) == ("note", body)
        assert answering.open(dialing.seal("note", body)) == ("note", body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("", {}),
        ("Offer", {}),
        ("a" * 33, {}),
        ("kind\n", {}),
        ("note", {"b": "x" * MAX_BODY_BYTES}),
        ("note", {"b": float("nan")}),
    ],
)
def test_what_cannot_be_said_is_the_callers_mistake_and_changes_nothing(pair, kind, body):
    answering = pair.established()
    with pytest.raises(ValueError):
        pair.dialing.seal(kind, body)
    assert answering.open(pair.dialing.seal("note", {})) == ("note", {})
