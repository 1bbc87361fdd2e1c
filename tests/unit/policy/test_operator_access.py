"""Who is the operator: the token, sessions, and how many guesses there are."""

import pytest
from turnrelay.policy.operator_access import SESSION_SECONDS, OperatorAccess, TooManyLogins

TOKEN = "the-token-of-the-operator"
HERE, ELSEWHERE = "198.51.100.7", "203.0.113.9"


@pytest.fixture
def access():
    return OperatorAccess(TOKEN)


@pytest.mark.parametrize("text", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "täken", "\udcff"])
def test_anything_but_the_token_is_wrong(access, text):
    assert access.knows(TOKEN)
    assert not access.knows(text)
    assert access.log_in(text, HERE, 0) is None
    assert not access.is_logged_in(text, 0)


def test_without_a_token_nobody_is_the_operator():
    access = OperatorAccess(None)
    assert not access.knows("")
    assert access.log_in("", HERE, 0) is None


def test_a_session_ends_by_itself(access):
    session = access.log_in(TOKEN, HERE, 100)
    assert access.is_logged_in(session, 100 + SESSION_SECONDS - 1)
    assert not access.is_logged_in(session, 100 + SESSION_SECONDS)


def test_a_session_ends_at_logging_out_and_no_other_with_it(access):
    first, second = access.log_in(TOKEN, HERE, 0), access.log_in(TOKEN, HERE, 0)
    access.log_out(first)
    access.log_out("no session")
    assert (access.is_logged_in(first, 1), access.is_logged_in(second, 1)) == (False, True)


def test_the_oldest_session_goes_when_there_are_too_many(access):
    sessions = [access.log_in(TOKEN, HERE, 10 * number) for number in range(65)]
    assert not access.is_logged_in(sessions[0], 650)
    assert all(access.is_logged_in(session, 650) for session in sessions[1:])


def test_guesses_are_few_and_are_counted_by_network(access):
    for _ in range(10):
        assert access.log_in("a guess", HERE, 0) is None
    with pytest.raises(TooManyLogins):
        access.log_in(TOKEN, "198.51.100.200", 0)
    assert access.log_in(TOKEN, ELSEWHERE, 0) is not None
    assert access.log_in(TOKEN, HERE, 2) is not None
