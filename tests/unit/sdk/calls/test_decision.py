"""Who may call: the table of contacts, and what counts as an answer."""

import asyncio

import pytest
from peerpath import Contacts, Decision, Identity
from peerpath.calls.decision import ask, refuse_everybody

ALICE, BOB, CAROL = (Identity.generate().public_key for _ in range(3))


def test_an_unknown_key_is_refused_unless_something_else_is_said():
    assert refuse_everybody(ALICE) is Decision.REFUSE
    assert Contacts()(ALICE) is Decision.REFUSE
    assert Contacts([BOB])(ALICE) is Decision.REFUSE
    assert Contacts(others=Decision.RELAY_ONLY)(ALICE) is Decision.RELAY_ONLY


def test_contacts_are_known_in_full_or_as_the_table_says():
    contacts = Contacts([ALICE, BOB], {BOB: Decision.REFUSE, CAROL: Decision.RELAY_ONLY})
    assert [contacts(key) for key in (ALICE, BOB, CAROL)] == [
        Decision.FULL,
        Decision.REFUSE,
        Decision.RELAY_ONLY,
    ]
    contacts.set(ALICE, Decision.REFUSE)
    assert contacts(ALICE) is Decision.REFUSE


async def test_the_answer_may_be_waited_for():
    async def later(key):
        await asyncio.sleep(0)
        return Decision.FULL if key == ALICE else Decision.REFUSE

    assert await ask(later, ALICE) is Decision.FULL
    assert await ask(later, BOB) is Decision.REFUSE


@pytest.mark.parametrize("answer", [None, True, 1, "yes", "full"])
async def test_what_is_no_decision_is_no_answer(answer):
    with pytest.raises(TypeError, match="must return a Decision"):
        await ask(lambda _: answer, ALICE)
