"""How responses are formed, and what they prove of themselves."""

from collections.abc import Sequence

from stunwire import (
    HEADER_SIZE,
    NONCE,
    PASSWORD_ALGORITHMS,
    REALM,
    TRANSACTION_ID_SIZE,
    UNKNOWN_ATTRIBUTES,
    ErrorCode,
    Header,
    Message,
    Method,
    PasswordAlgorithm,
    PasswordAlgorithmValue,
    SecurityFeatures,
)

from turnrelay.core.addresses import FiveTuple
from turnrelay.core.events import RequestAnswered
from turnrelay.core.outputs import Output, Reply
from turnrelay.core.refused import Refused
from turnrelay.core.state import Request, State

OFFERED_ALGORITHMS = (
    PasswordAlgorithmValue(PasswordAlgorithm.SHA256, b""),
    PasswordAlgorithmValue(PasswordAlgorithm.MD5, b""),
)
"""PASSWORD-ALGORITHMS of every challenge, the preferred one first (RFC 8489 section 14.11)."""

REMEMBERED = frozenset({Method.ALLOCATE, Method.REFRESH})
"""What must not be carried out twice, so that a retransmission gets the answer that was given."""

UNAUTHENTICATED_BYTES = 100
"""A challenge is never longer (unless the realm alone makes it so): small answers amplify no attack."""


def succeed(request: Request, message: Message) -> list[Output]:
    """The success response `message`, signed."""
    return [seal(request, message), RequestAnswered(request.message.method, 0, request.path.transport)]


def refuse(request: Request, refused: Refused) -> list[Output]:
    """The error response of an authenticated request that was refused."""
    message = Message.error_to(request.message, refused.code, refused.reason)
    for attribute, value in refused.attributes:
        message.add(attribute, value)
    answered = RequestAnswered(request.message.method, refused.code, request.path.transport)
    return [seal(request, message), answered]


def seal(request: Request, message: Message) -> Reply:
    """Signs as RFC 8489 section 9.2.4 says, not as the request was; FINGERPRINT if it had one."""
    data = message.encode(request.key, request.integrity, fingerprint=request.message.has_fingerprint)
    return Reply(request.path, data)


def remember(state: State, request: Request, outputs: Sequence[Output], now: float) -> None:
    """Keeps the reply among `outputs` for retransmissions of the request, whose method is in REMEMBERED."""
    for output in outputs:
        if isinstance(output, Reply):
            state.replies.remember(request, output.data, now)


def challenge(state: State, request: Message, path: FiveTuple, code: ErrorCode, now: float) -> list[Output]:
    """401 or 438 with what the client needs to try again (RFC 8489 section 9.2.4)."""
    nonce = state.nonces.issue(state.nonce_holder(path), now)
    kind = (request.method, code)
    if kind not in state.challenges:
        state.challenges[kind] = _challenge_around(state, request, code, nonce)
    start, between, end = state.challenges[kind]
    data = b"".join((start, request.transaction_id, between, nonce.encode("ascii"), end))
    return [Reply(path, data), RequestAnswered(request.method, code, path.transport)]


def _challenge_around(
    state: State, request: Message, code: ErrorCode, nonce: str
) -> tuple[bytes, bytes, bytes]:
    """A challenge without its transaction ID and its nonce, all of which are of one length: what is before,
    between and behind the two. No other part of it depends on the request."""

    def form(reason: str | None) -> bytes:
        message = Message.error_to(request, code, reason)
        message.add(REALM, state.realm)
        message.add(NONCE, nonce)
        if state.nonces.features & SecurityFeatures.PASSWORD_ALGORITHMS:
            message.add(PASSWORD_ALGORITHMS, OFFERED_ALGORITHMS)
        return message.encode()

    # The reason phrase is for people and may go; the rest is needed. Realm and code alone decide.
    data = form(None)
    if len(data) > UNAUTHENTICATED_BYTES:
        data = form("")
    start = HEADER_SIZE - TRANSACTION_ID_SIZE
    before, _, end = data[HEADER_SIZE:].rpartition(nonce.encode("ascii"))
    return data[:start], before, end


def unauthenticated_error(
    request: Message | Header, path: FiveTuple, code: ErrorCode, unknown: tuple[int, ...] = ()
) -> list[Output]:
    """An error response to somebody unknown: 400 and 420."""
    message = Message.error_to(request, code)
    if unknown:
        message.add(UNKNOWN_ATTRIBUTES, unknown)
    return [Reply(path, message.encode()), RequestAnswered(request.method, code, path.transport)]
