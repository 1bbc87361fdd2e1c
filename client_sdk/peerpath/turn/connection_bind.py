"""ConnectionBind: a connection to the server becomes the one to a peer (RFC 6062 section 4.3). Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stunwire import CONNECTION_ID, HEADER_SIZE, DecodeError, Message, Method

from peerpath.turn.credentials import Authentication
from peerpath.turn.outputs import Transmit
from peerpath.turn.transactions import Cause, Outcome, Request, Success, Transactions

_LAST_STUN_BYTE = 3
_LONGEST_ANSWER = 2048
_RTO = 0.5  # not used over a stream, where nothing is sent twice


@dataclass(frozen=True, slots=True)
class Bound:
    """The connection is that of the peer from here on; `data` is what it has said already."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NotBound:
    """The connection is of no use. `code` None: what came was no answer, or none came in time."""

    code: int | None
    reason: str


BindOutput = Transmit | Bound | NotBound


class ConnectionBind:
    """One data connection, from its beginning to `Bound` or `NotBound`, which is said once.

    `receive` takes the bytes of the stream as they come, in pieces of any size.
    """

    def __init__(self, authentication: Authentication, connection_id: int) -> None:
        self._transactions = Transactions(authentication, reliable=True, rto=_RTO)
        self._connection_id = connection_id
        self._unread = b""
        self._is_over = False

    def start(self, now: float) -> list[BindOutput]:
        request = Request(Method.CONNECTION_BIND, [(CONNECTION_ID, self._connection_id)])
        return list(self._transactions.begin(request, now))

    def receive(self, data: bytes, now: float) -> list[BindOutput]:
        self._unread += data
        outputs: list[BindOutput] = []
        # One message at a time: what follows the success is the peer's, whatever it looks like.
        while not self._is_over and (message := self._next_message(outputs)) is not None:
            transmits, outcomes = self._transactions.receive(message, now)
            outputs += transmits
            outputs += self._settle(outcomes)
        return outputs

    def next_deadline(self) -> float | None:
        return None if self._is_over else self._transactions.next_deadline()

    def handle_timeout(self, now: float) -> list[BindOutput]:
        if self._is_over:
            return []
        transmits, outcomes = self._transactions.handle_timeout(now)
        return [*transmits, *self._settle(outcomes)]

    def _next_message(self, outputs: list[BindOutput]) -> Message | None:
        unread = self._unread
        if unread and unread[0] > _LAST_STUN_BYTE:
            outputs.append(self._end(NotBound(None, "what the server sends is not STUN")))
        if self._is_over or len(unread) < HEADER_SIZE:
            return None
        end = HEADER_SIZE + int.from_bytes(unread[2:4], "big")
        if end > _LONGEST_ANSWER:
            outputs.append(self._end(NotBound(None, "what the server sends is too long for an answer")))
            return None
        if len(unread) < end:
            return None
        self._unread = unread[end:]
        try:
            return Message.decode(unread[:end])
        except DecodeError as error:
            outputs.append(self._end(NotBound(None, f"what the server sends is not STUN ({error})")))
            return None

    def _settle(self, outcomes: Sequence[Outcome]) -> list[BindOutput]:
        outputs: list[BindOutput] = []
        for outcome in outcomes:
            if isinstance(outcome, Success):
                outputs.append(self._end(Bound(self._unread)))
            elif outcome.cause is Cause.ERROR:
                outputs.append(self._end(NotBound(outcome.code, outcome.reason)))
            elif outcome.cause is Cause.INTEGRITY_VIOLATED:
                outputs.append(self._end(NotBound(None, "the answer was forged")))
            else:
                outputs.append(self._end(NotBound(None, "the server does not answer")))
        return outputs

    def _end(self, output: Bound | NotBound) -> Bound | NotBound:
        self._is_over, self._unread = True, b""
        self._transactions.abandon()
        return output
