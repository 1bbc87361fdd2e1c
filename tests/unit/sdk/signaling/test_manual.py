"""Messages that people copy and paste, with what mail and chat programs do to them."""

import base64
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.signaling import ManualSignaling, SignalingClosed, SignalingError
from peerpath.signaling.armor import armor, unarmor
from unit.sdk.signaling.pair import Pair

PAIR = Pair()
OFFER = PAIR.offer
ANSWER = PAIR.answering().seal("answer", {"candidates": ["x" * 300]})


@pytest.mark.parametrize("message", [OFFER, ANSWER])
def test_a_message_comes_back_from_its_text(message):
    text = armor(message)
    assert unarmor(text) == message
    assert max(len(line) for line in text.splitlines()) <= 64
    assert text.isascii()


def test_the_text_says_what_it_is():
    assert armor(OFFER).startswith("-----BEGIN PEERPATH OFFER-----\n")
    assert armor(ANSWER).endswith("-----END PEERPATH ANSWER-----\n")


HABITS = {
    "quoted in a mail": lambda text: "".join(f"> {line}\n" for line in text.splitlines()),
    "quoted twice": lambda text: "".join(f"> > {line}\n" for line in text.splitlines()),
    "all in one line": lambda text: text.replace("\n", " "),
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "indented": lambda text: text.replace("\n", "\n\t  "),
    "with longer dashes": lambda text: text.replace("-----", "—–-"),
    "with words around": lambda text: f"Hi Bob, here it is:\n\n{text}\nBest, Alice -- sent from my phone",
    "with zero-width spaces": lambda text: text.replace("\n", "\u200b\n\ufeff"),
    "with non-breaking spaces": lambda text: text.replace("\n", "\u00a0\n"),
    "in a code block": lambda text: f"```\n{text}```",
}


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("message", [OFFER, ANSWER])
def test_what_programs_do_to_text_is_undone(habit, message):
    assert unarmor(HABITS[habit](armor(message))) == message


def test_lines_that_are_wrapped_again_between_the_marks_do_no_harm():
    first, *body, last, _ = armor(ANSWER).split("\n")
    wrapped = "\n".join("".join(body)[start : start + 23] for start in range(0, len("".join(body)), 23))
    assert unarmor(f"{first}\n{wrapped}\n{last}") == ANSWER


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
FAULTS = {
    "nothing of the kind": (lambda _: "hello", "no line says BEGIN PEERPATH"),
    "a certificate": (lambda _: CERTIFICATE, "it is a CERTIFICATE"),
    "its end is missing": (lambda text: text[:-40], "cut short, its last line is missing"),
    "its beginning is missing": (lambda text: text[40:], "no line says BEGIN PEERPATH"),
    "a line is missing": (lambda text: without_line(text, 2), "damaged on its way, or is incomplete"),
    "a character changed": (lambda text: text[:60] + other(text[60]) + text[61:], "damaged"),
    "a character is missing": (lambda text: text[:60] + text[61:], "damaged"),
    "nothing between the marks": (lambda text: without_line(text, *range(1, 99)), "damaged"),
    "two halves of two messages": (
        lambda text: text.replace("END PEERPATH ANSWER", "END PEERPATH OFFER"),
        "cut short",
    ),
    "another name on it": (lambda text: text.replace("ANSWER", "OFFER"), "says that it is an offer"),
    "far too long": (lambda text: text * 200, "more than 65536 characters"),
}


def without_line(text, *numbers):
    lines = text.splitlines()
    return "\n".join(line for n, line in enumerate(lines) if n not in numbers or n == len(lines) - 1)


def other(character):
    return "A" if character != "A" else "B"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_text_that_is_wrong_is_refused_in_words(fault):
    break_it, reason = FAULTS[fault]
    with pytest.raises(SignalingError, match=reason):
        unarmor(break_it(armor(ANSWER)))


def test_a_text_with_a_right_checksum_and_no_envelope_is_refused():
    body = base64.b64encode(b"hello" + hashlib.sha256(b"hello").digest()[:4]).decode()
    with pytest.raises(SignalingError, match="too few"):
        unarmor(f"-----BEGIN PEERPATH OFFER-----\n{body}\n-----END PEERPATH OFFER-----")


@given(st.text(max_size=300))
def test_any_text_is_a_message_or_refused(text):
    for around in (text, f"BEGIN PEERPATH OFFER {text} END PEERPATH OFFER"):
        with pytest.raises(SignalingError):
            unarmor(around)


def test_mutated_texts_are_the_message_or_refused():
    randomness, text = random.Random(3), armor(ANSWER)
    for _ in range(2000):
        place = randomness.randrange(len(text))
        changed = text[:place] + randomness.choice("Az9+/=-> \n") + text[place + randomness.randrange(2) :]
        try:
            assert unarmor(changed) == ANSWER
        except SignalingError:
            continue


class People:
    """Who copy what one side shows, and paste what the other side gave them."""

    def __init__(self, *texts: str) -> None:
        self.shown: list[str] = []
        self.texts = list(texts)

    def channel(self) -> ManualSignaling:
        return ManualSignaling(self.shown.append, self.read)

    async def read(self) -> str:
        if not self.texts:
            raise EOFError
        return self.texts.pop(0)


async def test_an_offer_and_an_answer_are_all_that_people_have_to_carry():
    pair, alice, bob = Pair(), People(), People()
    here, there = alice.channel(), bob.channel()
    assert not here.trickle
    await here.send(pair.offer)
    bob.texts += alice.shown
    answering = pair.answering(await there.recv())
    await there.send(answering.seal("answer", {"n": 1}))
    alice.texts += bob.shown
    assert pair.dialing.open(await here.recv()) == ("answer", {"n": 1})


async def test_the_text_may_be_shown_by_something_that_takes_its_time():
    shown = []

    async def show(text):
        shown.append(text)

    await ManualSignaling(show, People().read).send(OFFER)
    assert unarmor(shown[0]) == OFFER


async def test_a_wrong_paste_is_explained_and_the_next_one_may_be_right():
    people = People("oops", armor(OFFER), armor(Pair().offer), armor(ANSWER))
    channel = people.channel()
    await channel.send(OFFER)
    for reason in ("no line says BEGIN", "the one that was made here", "has to answer the offer"):
        with pytest.raises(SignalingError, match=reason):
            await channel.recv()
    assert await channel.recv() == ANSWER


async def test_whoever_pastes_is_told_what_is_wrong_and_asked_again():
    people, explained = People("oops", armor(OFFER), armor(ANSWER)), []
    channel = ManualSignaling(people.shown.append, people.read, explained.append)
    await channel.send(OFFER)
    assert await channel.recv() == ANSWER
    first, second = explained
    assert "no line says BEGIN" in first
    assert "the one that was made here" in second


async def test_an_answer_where_an_offer_is_due_is_explained():
    with pytest.raises(SignalingError, match="no offer was made here"):
        await People(armor(ANSWER)).channel().recv()


@pytest.mark.parametrize("texts", [[], [""], ["  \n"]])
async def test_no_more_text_is_the_end(texts):
    with pytest.raises(SignalingClosed):
        await People(*texts).channel().recv()


async def test_only_envelopes_are_shown():
    people = People()
    with pytest.raises(ValueError, match="only envelopes"):
        await people.channel().send(b"hello")
    assert people.shown == []
