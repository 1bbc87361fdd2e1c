"""Long-term credentials (RFC 8489 section 9.2.4): who sent this request?"""

import secrets
from collections.abc import Sequence

from stunwire import (
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    ErrorCode,
    Integrity,
    Message,
    PasswordAlgorithm,
    SecurityFeatures,
    opaque_string,
    userhash,
)

from turnrelay.core.addresses import FiveTuple
from turnrelay.core.events import AuthenticationFailure
from turnrelay.core.protocols import Credential, KeyQuery
from turnrelay.core.replies import OFFERED_ALGORITHMS
from turnrelay.core.state import PendingRequest, Request, State


class Unauthenticated(Exception):
    """Nobody's request: the error code to answer with, and why."""

    def __init__(self, code: ErrorCode, reason: AuthenticationFailure) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def examine(
    state: State, message: Message, path: FiveTuple, now: float
) -> tuple[KeyQuery, PasswordAlgorithm]:
    """The checks of section 9.2.4 that need no key, in its order but for the nonce.

    The nonce is checked before the user is looked up, as in RFC 5389: a flood without a nonce of ours
    never reaches the user directory.

    Returns whose keys to look up, and which of them. Raises Unauthenticated.
    """
    if message.integrity is None:
        raise Unauthenticated(ErrorCode.UNAUTHENTICATED, AuthenticationFailure.NO_CREDENTIALS)
    username, hashed = message.get(USERNAME), message.get(USERHASH)
    realm, nonce = message.get(REALM), message.get(NONCE)
    if (username is None and hashed is None) or realm is None or nonce is None:
        raise Unauthenticated(ErrorCode.BAD_REQUEST, AuthenticationFailure.INCOMPLETE)
    if not state.nonces.accepts(nonce, state.nonce_holder(path), now):
        raise Unauthenticated(ErrorCode.STALE_NONCE, AuthenticationFailure.STALE_NONCE)
    algorithm = _algorithm(state, message)
    if realm != state.realm:
        raise Unauthenticated(ErrorCode.UNAUTHENTICATED, AuthenticationFailure.UNKNOWN_USER)
    if username is None:
        return KeyQuery(userhash=hashed), algorithm
    try:
        return KeyQuery(username=opaque_string(username)), algorithm
    except ValueError:
        # No user can have such a name; the answer is that of any unknown user.
        raise Unauthenticated(ErrorCode.UNAUTHENTICATED, AuthenticationFailure.UNKNOWN_USER) from None


def _algorithm(state: State, message: Message) -> PasswordAlgorithm:
    """Which key the client used. Bid-down protection: what we offered must come back as we offered it.

    The nonce is ours (its MAC covers the security feature bits), so the algorithms were offered.
    """
    offered, chosen = message.get(PASSWORD_ALGORITHMS), message.get(PASSWORD_ALGORITHM)
    if offered is None and chosen is None:
        return PasswordAlgorithm.MD5
    if not state.nonces.features & SecurityFeatures.PASSWORD_ALGORITHMS:
        return PasswordAlgorithm.MD5
    if offered is None or chosen is None or offered != OFFERED_ALGORITHMS or chosen not in offered:
        raise Unauthenticated(ErrorCode.BAD_REQUEST, AuthenticationFailure.BID_DOWN)
    return PasswordAlgorithm(chosen.algorithm)


def asks_for(query: KeyQuery, credential: Credential, realm: str) -> bool:
    """Whether the query is for this credential's user."""
    if query.username is not None:
        return query.username == credential.username
    return query.userhash == userhash(credential.username, realm)


def authenticate(pending: PendingRequest, candidates: Sequence[Credential]) -> Request:
    """The request with the credential whose key signed it, or Unauthenticated.

    There can be several candidates while a shared secret is being rotated. An unknown user costs as much
    time as a known one with a wrong password, and gets the same answer.
    """
    message, integrity = pending.message, pending.message.integrity
    assert integrity is not None  # examine() saw to it
    digest = message.get(MESSAGE_INTEGRITY_SHA256)
    if digest is not None and len(digest) < _SHA256_BYTES:
        # RFC 8489 section 14.6: truncated only where the usage says so, and TURN does not.
        raise Unauthenticated(ErrorCode.UNAUTHENTICATED, AuthenticationFailure.WRONG_PASSWORD)
    # Without a key nobody's is tried, so that it takes the same time to find out.
    for credential in candidates:
        key = credential.keys.get(pending.algorithm)
        if message.verify(key or _NOBODYS_KEY, integrity) and key is not None:
            # Who named an algorithm is answered with SHA-256, everyone else is a client of RFC 5389.
            answer = Integrity.SHA256 if PASSWORD_ALGORITHM in message else Integrity.SHA1
            return Request(message, pending.path, credential, key, answer)
    if candidates:
        raise Unauthenticated(ErrorCode.UNAUTHENTICATED, AuthenticationFailure.WRONG_PASSWORD)
    message.verify(_NOBODYS_KEY, integrity)
    raise Unauthenticated(ErrorCode.UNAUTHENTICATED, AuthenticationFailure.UNKNOWN_USER)


_SHA256_BYTES = 32
_NOBODYS_KEY = secrets.token_bytes(16)
