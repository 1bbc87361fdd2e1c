"""Time-limited credentials (the TURN REST convention): the name carries its expiry, a secret proves it."""

import hmac
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from stunwire import PasswordAlgorithm, long_term_key, opaque_string

from turnrelay.core.protocols import Credential

_CACHED_NAMES = 4096


class SharedSecrets:
    """Time-limited credentials: the password is base64(HMAC-SHA1(secret, user name)).

    The convention of draft-uberti-behave-turn-rest-00, which chat servers mint for. While a secret is being
    rotated there are several; nothing in the name tells which was used, so each gives a candidate.
    """

    def __init__(self, secrets: Sequence[str], realm: str) -> None:
        self._secrets = tuple(secrets)
        self._realm = realm
        self._candidates = lru_cache(_CACHED_NAMES)(self._make_candidates)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def find(self, username: str, now_unix: float) -> tuple[Credential, ...]:
        """One candidate for each secret, none if the name is not time-limited or its time is over."""
        name = parse_time_limited(username)
        if name is None or name.expires_at < now_unix:
            return ()
        return self._candidates(username, name.account)

    def mint(self, name: str, ttl_seconds: int, now_unix: float) -> tuple[str, str]:
        """A user name and password valid for `ttl_seconds`, under the first secret.

        `name` may be empty. PreparationError (a ValueError) for a name that OpaqueString refuses.
        """
        if not self._secrets:
            raise ValueError("there is no shared secret to mint with")
        expires_at = int(now_unix) + ttl_seconds
        # Prepared here, since the server sees the name prepared and computes the HMAC over that.
        username = opaque_string(f"{expires_at}:{name}" if name else str(expires_at), "user name")
        if parse_time_limited(username) is None:
            raise ValueError(f"{ttl_seconds} seconds end after what ten digits of Unix time can hold")
        return username, rest_password(self._secrets[0], username)

    def _make_candidates(self, username: str, account: str) -> tuple[Credential, ...]:
        return tuple(
            make_credential(username, self._realm, rest_password(secret, username), account)
            for secret in self._secrets
        )


def rest_password(secret: str, username: str) -> str:
    """The password of a time-limited user name."""
    return b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()


def make_credential(username: str, realm: str, password: str, account: str | None = None) -> Credential:
    """The credential of a user; PreparationError (a ValueError) for a password that cannot be one."""
    keys = {algorithm: long_term_key(username, realm, password, algorithm) for algorithm in PasswordAlgorithm}
    return Credential(username, account or username, keys)


# At most ten digits: the year 2286. Milliseconds, a frequent mistake, would be valid for 50,000 years.
_TIME_LIMITED = re.compile(r"([1-9][0-9]{0,9})(?::(.*))?", re.ASCII | re.DOTALL)


class TimeLimitedName(NamedTuple):
    """A user name of the TURN REST convention: `EXPIRY:NAME`, or `EXPIRY` alone."""

    expires_at: int
    """Unix time, seconds."""
    account: str
    """NAME, in which colons are allowed (Matrix: `@alice:example.org`); the expiry where there is none."""


def parse_time_limited(username: str) -> TimeLimitedName | None:
    """The parts of a time-limited name, None if `username` is not one."""
    found = _TIME_LIMITED.fullmatch(username)
    if found is None:
        return None
    expiry, name = found.groups()
    return TimeLimitedName(int(expiry), name or expiry)
