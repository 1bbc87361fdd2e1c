"""OperatorAccess: who is the operator. Whoever knows the token is, and who has logged in with it."""

import hashlib
import hmac
import secrets
from collections import OrderedDict

from turnrelay.policy.rate_limits import PrefixRateLimit

SESSION_SECONDS = 12 * 3600
_SESSIONS = 64
_LOGINS_PER_SECOND = 0.5
_LOGIN_BURST = 10
_LOGIN_SLOTS = 1024


class TooManyLogins(Exception):
    """The source prefix has tried too often; it may try again in a few seconds."""


class OperatorAccess:
    """The operator's token and the sessions of those who logged in with it.

    Sessions are kept by their hash, so that a look-up tells nothing of a session by the time it takes. They
    end after `SESSION_SECONDS`; when there are too many the oldest goes.
    """

    def __init__(self, token: str | None) -> None:
        """Without a token nobody is the operator."""
        self._token = None if token is None else _hash(token)
        self._sessions: OrderedDict[bytes, float] = OrderedDict()
        self._logins = PrefixRateLimit(_LOGINS_PER_SECOND, _LOGIN_BURST, slots=_LOGIN_SLOTS)

    def knows(self, token: str) -> bool:
        """Whether this is the token. Asked without limit: 20 characters are not guessed over a network."""
        return self._token is not None and hmac.compare_digest(self._token, _hash(token))

    def log_in(self, token: str, client_host: str, now: float) -> str | None:
        """A new session, None for a wrong token; TooManyLogins, whatever the token, for too many attempts."""
        if not self._logins.allow(client_host, now):
            raise TooManyLogins
        if not self.knows(token):
            return None
        session = secrets.token_urlsafe(32)
        self._sessions[_hash(session)] = now + SESSION_SECONDS
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def is_logged_in(self, session: str, now: float) -> bool:
        """Whether the session is one that has not ended."""
        expires_at = self._sessions.get(_hash(session))
        return expires_at is not None and now < expires_at

    def log_out(self, session: str) -> None:
        """Ends a session; any other text is nothing to end."""
        self._sessions.pop(_hash(session), None)


def _hash(text: str) -> bytes:
    # Headers and JSON can bring lone surrogates: a text that is no token, and no error.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
