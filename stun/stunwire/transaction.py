"""A client's request, sent until answered (RFC 8489 sections 6.2.1 and 6.2.2)."""

from __future__ import annotations

from enum import Enum, auto


class TransactionState(Enum):
    """PENDING until `complete()` or the last timeout."""

    PENDING = auto()
    COMPLETED = auto()
    TIMED_OUT = auto()


class ClientTransaction:
    """When to send `request` and when to give up. Times are seconds of whatever clock `now` comes from.

    Over UDP it is sent `rc` times, at intervals that begin with `rto` and double, and fails `rm` * `rto`
    after the last: with the defaults at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, over at 39.5 s. With
    `reliable` it is sent once and fails after `ti`.

    Ask `next_deadline()`, call `handle_timeout(now)` then, and send what `poll_transmit(now)` returns.
    """

    __slots__ = (
        "_deadline",
        "_due",
        "_rc",
        "_reliable",
        "_rm",
        "_rto",
        "_sent_at",
        "_ti",
        "request",
        "rtt",
        "state",
        "transaction_id",
        "transmissions",
    )

    def __init__(
        self,
        request: bytes,
        transaction_id: bytes,
        now: float,
        *,
        rto: float = 0.5,
        rc: int = 7,
        rm: float = 16,
        reliable: bool = False,
        ti: float = 39.5,
    ) -> None:
        self.request = request
        self.transaction_id = transaction_id
        self.state = TransactionState.PENDING
        self.transmissions = 0
        self.rtt: float | None = None
        self._rto, self._rc, self._rm, self._ti = rto, 1 if reliable else rc, rm, ti
        self._reliable = reliable
        self._deadline = now
        self._sent_at = now
        self._due = True

    def poll_transmit(self, now: float) -> bytes | None:
        """The request, if it is time to send it; counts as sent at `now`."""
        if not self._due or self.state is not TransactionState.PENDING:
            return None
        self._due = False
        self._sent_at = now
        self._deadline = now + self._patience()
        self.transmissions += 1
        return self.request

    def _patience(self) -> float:
        """How long to wait after the transmission that is under way."""
        if self._reliable:
            return self._ti
        if self.transmissions + 1 >= self._rc:
            return self._rm * self._rto
        return float(self._rto * 2**self.transmissions)

    def next_deadline(self) -> float | None:
        """When to call `handle_timeout` next; None once it is over."""
        return self._deadline if self.state is TransactionState.PENDING else None

    def handle_timeout(self, now: float) -> None:
        """The next transmission falls due, or the transaction times out. Early calls do nothing."""
        if self.state is not TransactionState.PENDING or self._due or now < self._deadline:
            return
        if self.transmissions >= self._rc:
            self.state = TransactionState.TIMED_OUT
        else:
            self._due = True

    def complete(self, now: float | None = None) -> None:
        """The response has come.

        With `now`, `rtt` is set in seconds if the request went out once: of two, nobody can tell which
        one was answered (Karn's algorithm, RFC 8489 section 6.2.1).
        """
        if self.state is not TransactionState.PENDING:
            return
        self.state = TransactionState.COMPLETED
        if now is not None and self.transmissions == 1:
            self.rtt = now - self._sent_at
