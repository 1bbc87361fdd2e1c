"""Requests to one server: signed, retransmitted, challenged and answered (RFC 8489 sections 6 and 9.2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from stunwire import (
    ERROR_CODE,
    NONCE,
    Attribute,
    ClientTransaction,
    ErrorCode,
    Message,
    MessageClass,
    Method,
    TransactionState,
)

from peerpath.turn.credentials import (
    Authentication,
    Seal,
    Verdict,
    lacks_announced_algorithms,
)
from peerpath.turn.outputs import Transmit

# One challenge is usual, and a nonce may go stale while a request is on its way. A server that asks again
# and again is not worth following.
MAX_CHALLENGES = 4

_COMPLAINTS = {
    Verdict.INCOMPLETE: "the server asks for credentials without saying which (no realm or nonce)",
    Verdict.BID_DOWN: "somebody on the way took the password algorithms out of the server's offer",
    Verdict.UNSUPPORTED: "the server offers no password algorithm that is known here",
}


@dataclass(slots=True)
class Request:
    """What is asked, apart from who asks: it is signed anew for every attempt."""

    method: Method
    attributes: Sequence[tuple[Attribute[Any], Any]]
    about: Any = None
    """What the answer is about: hosts, a channel binding, a lifetime."""
    challenges: int = 0


class Cause(Enum):
    """Why a request failed."""

    ERROR = auto()
    """The server said so: `code` and `reason` are its own."""
    NO_ANSWER = auto()
    INTEGRITY_VIOLATED = auto()


@dataclass(frozen=True, slots=True)
class Success:
    request: Request
    response: Message


@dataclass(frozen=True, slots=True)
class Failure:
    request: Request
    cause: Cause
    code: int = 0
    reason: str = ""
    response: Message | None = None


Outcome = Success | Failure


@dataclass(slots=True)
class _Attempt:
    request: Request
    transaction: ClientTransaction
    seal: Seal | None
    distrusted: bool = False
    """A response came that could not be believed."""


class Transactions:
    """The requests that wait for an answer. Every method returns what to send and what was decided."""

    def __init__(self, authentication: Authentication, *, reliable: bool, rto: float) -> None:
        self._authentication = authentication
        self._reliable = reliable
        self._rto = rto
        self._attempts: dict[bytes, _Attempt] = {}
        self.round_trip: float | None = None
        """Seconds, of the latest request that was sent once and answered."""

    def begin(self, request: Request, now: float) -> list[Transmit]:
        message = Message(MessageClass.REQUEST, request.method)
        for attribute, value in request.attributes:
            message.add(attribute, value)
        data, seal = self._authentication.sign(message)
        transaction = ClientTransaction(
            data, message.transaction_id, now, rto=self._rto, reliable=self._reliable
        )
        self._attempts[message.transaction_id] = _Attempt(request, transaction, seal)
        return _due(transaction, now)

    @property
    def shows_credentials(self) -> bool:
        """Whether any request under way does."""
        return any(attempt.seal is not None for attempt in self._attempts.values())

    def abandon(self) -> None:
        """Nobody waits for any answer any more."""
        self._attempts.clear()

    def receive(self, response: Message, now: float) -> tuple[list[Transmit], list[Outcome]]:
        """A success or error response; one that answers nothing of ours is dropped."""
        attempt = self._attempts.get(response.transaction_id)
        if attempt is None or response.method != attempt.request.method:
            return [], []
        error = response.get(ERROR_CODE)
        if response.message_class is MessageClass.ERROR_RESPONSE:
            if error is None:
                return [], []
            if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.STALE_NONCE):
                return self._challenged(attempt, response, error.code, error.reason, now)
        nonce = response.get(NONCE)
        if nonce is not None and lacks_announced_algorithms(nonce, response):
            return [], []
        if attempt.seal is not None and not self._authentication.verify(response, attempt.seal):
            return [], self._distrust(attempt)
        self._finish(attempt, now)
        if response.unknown_required:
            # Section 6.3.3: an answer that cannot be understood means that the transaction has failed.
            reason = "the answer holds attributes that are not known here"
            code = ErrorCode.UNKNOWN_ATTRIBUTE if error is None else error.code
            return [], [Failure(attempt.request, Cause.ERROR, code, reason, None)]
        if response.message_class is MessageClass.SUCCESS_RESPONSE:
            return [], [Success(attempt.request, response)]
        assert error is not None
        reason = error.reason or _phrase(error.code)
        return [], [Failure(attempt.request, Cause.ERROR, error.code, reason, response)]

    def next_deadline(self) -> float | None:
        deadlines = [attempt.transaction.next_deadline() for attempt in self._attempts.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, now: float) -> tuple[list[Transmit], list[Outcome]]:
        """Retransmits what is due, and gives up what has waited long enough."""
        transmits: list[Transmit] = []
        outcomes: list[Outcome] = []
        for identifier, attempt in list(self._attempts.items()):
            transaction = attempt.transaction
            transaction.handle_timeout(now)
            transmits += _due(transaction, now)
            if transaction.state is TransactionState.TIMED_OUT:
                del self._attempts[identifier]
                cause = Cause.INTEGRITY_VIOLATED if attempt.distrusted else Cause.NO_ANSWER
                outcomes.append(Failure(attempt.request, cause))
        return transmits, outcomes

    def _challenged(
        self, attempt: _Attempt, response: Message, code: int, reason: str, now: float
    ) -> tuple[list[Transmit], list[Outcome]]:
        request = attempt.request
        verdict = self._authentication.challenged(response, code, attempt.seal)
        if verdict is Verdict.DISCARD:
            return [], self._distrust(attempt)
        self._finish(attempt, now)
        request.challenges += 1
        if verdict is not Verdict.RETRY or request.challenges > MAX_CHALLENGES:
            reason = _COMPLAINTS.get(verdict, reason or _phrase(code))
            return [], [Failure(request, Cause.ERROR, code, reason, response)]
        return self.begin(request, now), []

    def _distrust(self, attempt: _Attempt) -> list[Outcome]:
        """Section 9.2.5: over UDP as if it had never come, over a stream the end of the transaction."""
        attempt.distrusted = True
        if not self._reliable:
            return []
        del self._attempts[attempt.transaction.transaction_id]
        return [Failure(attempt.request, Cause.INTEGRITY_VIOLATED)]

    def _finish(self, attempt: _Attempt, now: float) -> None:
        attempt.transaction.complete(now)
        self.round_trip = attempt.transaction.rtt or self.round_trip
        del self._attempts[attempt.transaction.transaction_id]


def _phrase(code: int) -> str:
    """What to tell a person where the server saved itself the words."""
    return ErrorCode(code).reason if code in tuple(ErrorCode) else "no reason given"


def _due(transaction: ClientTransaction, now: float) -> list[Transmit]:
    data = transaction.poll_transmit(now)
    return [] if data is None else [Transmit(data)]
