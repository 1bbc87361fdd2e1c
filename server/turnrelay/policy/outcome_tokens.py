"""OutcomeTokens: the right to report one traversal outcome, minted together with a credential."""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Sequence
from enum import Enum

LIFETIME_SECONDS = 24 * 3600
CAPACITY = 100_000
"""Tokens remembered as spent, at about 150 bytes each."""

_PURPOSE = b"turnrelay traversal outcome token 1"
_ID_BYTES = 12
_EXPIRY_BYTES = 5
_MAC_BYTES = 16
_CHARACTERS = (_ID_BYTES + _EXPIRY_BYTES + _MAC_BYTES) * 4 // 3


class Redemption(Enum):
    """What became of a token."""

    GOOD = "good"
    FORGED = "forged"
    """Not of this relay, or no token at all."""
    EXPIRED = "expired"
    SPENT = "spent"
    FULL = "full"
    """As many tokens as can be remembered were spent within their lifetime; it is still good later."""


class OutcomeTokens:
    """Single-use tokens: 44 characters of base64url, good for 24 hours.

    A token is its id and its expiry under a MAC, so minting remembers nothing. Spent ones are remembered
    until they expire, a bounded number. A restart forgets them: what was reported is then gone, too.
    """

    def __init__(self, shared_secrets: Sequence[str], *, capacity: int = CAPACITY) -> None:
        """The first secret mints, all are accepted; without any, tokens hold for this process alone."""
        roots = [secret.encode() for secret in shared_secrets] or [secrets.token_bytes(32)]
        self._keys = [hmac.digest(root, _PURPOSE, "sha256") for root in roots]
        self._capacity = capacity
        self._spent: set[bytes] = set()
        self._in_order: deque[tuple[int, bytes]] = deque()
        """When each spent token may be forgotten, and its id. In order, for all are kept equally long."""
        self.minted = 0

    @property
    def spent(self) -> list[tuple[int, bytes]]:
        """When each spent token may be forgotten, and its id; the oldest first."""
        return list(self._in_order)

    def take_over(self, forget_at: int, token: bytes) -> None:
        """A token that was spent in another process; the oldest come first."""
        self._spent.add(token)
        self._in_order.append((forget_at, token))

    def mint(self, now: float) -> str:
        """A new token; `now` is Unix time."""
        self.minted += 1
        body = secrets.token_bytes(_ID_BYTES) + int(now + LIFETIME_SECONDS).to_bytes(_EXPIRY_BYTES, "big")
        return urlsafe_b64encode(body + _mac(self._keys[0], body)).decode()

    def check(self, token: str, now: float) -> Redemption:
        """What `redeem` would say; nothing is spent."""
        body = self._authentic(token)
        if body is None:
            return Redemption.FORGED
        if int.from_bytes(body[_ID_BYTES:], "big") < now:
            return Redemption.EXPIRED
        self._forget(now)
        if body in self._spent:
            return Redemption.SPENT
        return Redemption.FULL if len(self._spent) >= self._capacity else Redemption.GOOD

    def redeem(self, token: str, now: float) -> Redemption:
        """Spends the token: GOOD once, SPENT ever after."""
        result = self.check(token, now)
        if result is Redemption.GOOD:
            body = self._authentic(token)
            assert body is not None  # check() found it good
            self._spent.add(body)
            self._in_order.append((int(now + LIFETIME_SECONDS), body))
        return result

    def _authentic(self, token: str) -> bytes | None:
        """Id and expiry of a token that one of the keys made."""
        if len(token) != _CHARACTERS or not token.isascii():
            return None
        try:
            raw = urlsafe_b64decode(token)
        except ValueError:
            return None
        # Other spellings of the same bytes would pass, so only the one that mint() writes does.
        if urlsafe_b64encode(raw).decode() != token:
            return None
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        good = [hmac.compare_digest(_mac(key, body), mac) for key in self._keys]
        return body if any(good) else None

    def _forget(self, now: float) -> None:
        while self._in_order and self._in_order[0][0] < now:
            self._spent.discard(self._in_order.popleft()[1])


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]
