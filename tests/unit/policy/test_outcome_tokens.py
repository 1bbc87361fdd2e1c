"""Tokens to report an outcome: good once, for a while, at the relay whose secret made them."""

import pytest
from turnrelay.policy.outcome_tokens import LIFETIME_SECONDS, OutcomeTokens, Redemption

NOW = 1_800_000_000.5


@pytest.fixture
def tokens():
    return OutcomeTokens(["the shared secret"])


def test_a_token_is_good_once(tokens):
    token = tokens.mint(NOW)
    assert tokens.check(token, NOW) is Redemption.GOOD
    assert tokens.redeem(token, NOW) is Redemption.GOOD
    assert tokens.redeem(token, NOW + 1) is Redemption.SPENT
    assert tokens.check(token, NOW + LIFETIME_SECONDS - 1) is Redemption.SPENT
    assert tokens.minted == 1


def test_a_token_expires_and_never_becomes_good_again(tokens):
    token = tokens.mint(NOW)
    assert tokens.redeem(token, NOW + 5) is Redemption.GOOD
    assert tokens.redeem(token, NOW + LIFETIME_SECONDS + 1) is Redemption.EXPIRED
    assert tokens.redeem(tokens.mint(NOW), NOW + LIFETIME_SECONDS + 1) is Redemption.EXPIRED


def test_another_secret_makes_other_tokens_and_a_rotated_one_is_accepted(tokens):
    token = tokens.mint(NOW)
    assert OutcomeTokens(["another"]).redeem(token, NOW) is Redemption.FORGED
    assert OutcomeTokens(["another", "the shared secret"]).redeem(token, NOW) is Redemption.GOOD


def test_without_secrets_tokens_hold_for_the_process():
    tokens = OutcomeTokens([])
    assert tokens.redeem(tokens.mint(NOW), NOW) is Redemption.GOOD
    assert tokens.redeem(OutcomeTokens([]).mint(NOW), NOW) is Redemption.FORGED


def test_every_changed_character_is_noticed(tokens):
    token = tokens.mint(NOW)
    for position, character in enumerate(token):
        other = "A" if character != "A" else "B"
        changed = token[:position] + other + token[position + 1 :]
        assert tokens.redeem(changed, NOW) is Redemption.FORGED
    assert tokens.redeem(token, NOW) is Redemption.GOOD


@pytest.mark.parametrize("token", ["", "x", "A" * 44, "ä" * 44, "A" * 10_000, "=" * 44, "/" * 44])
def test_what_is_no_token_is_refused(tokens, token):
    assert tokens.redeem(token, NOW) is Redemption.FORGED


def test_no_more_are_remembered_than_there_is_room_for():
    tokens = OutcomeTokens(["secret"], capacity=3)
    spent = [tokens.mint(NOW) for _ in range(3)]
    assert [tokens.redeem(token, NOW) for token in spent] == [Redemption.GOOD] * 3
    waiting = tokens.mint(NOW + 10)
    assert tokens.redeem(waiting, NOW + 10) is Redemption.FULL
    assert tokens.redeem(spent[0], NOW + 10) is Redemption.SPENT
    assert tokens.redeem(waiting, NOW + LIFETIME_SECONDS + 2) is Redemption.GOOD
