"""Keeping valid pairs valid: consent checks and keepalives (RFC 7675, RFC 8445 section 11)."""

from __future__ import annotations

from stunwire import ERROR_CODE, ErrorCode, Integrity, Message, MessageClass, TransportAddress

from peerpath.ice.connectivity_check import form_keepalive, form_request
from peerpath.ice.outputs import ConsentLost, Output, Transmit
from peerpath.ice.pair import CandidatePair
from peerpath.ice.priority import peer_reflexive_priority
from peerpath.ice.session import IceSession

KEEPALIVE_INTERVAL = 15.0
"""Tr of RFC 8445 section 11, seconds."""


class Upkeep:
    """Looks after the valid pairs of one session."""

    def __init__(self, session: IceSession) -> None:
        self._session = session
        self._kept_at: dict[CandidatePair, float] = {}

    def next_deadline(self) -> float | None:
        moments = [pair.consent.deadline() for pair in self._session.check_list if pair.consent is not None]
        if not self._session.context.options.consent:
            moments = [self._keepalive_at(pair) for pair in self._session.check_list if pair.is_valid]
        return min(moments, default=None)

    def handle_timeout(self, now: float, outputs: list[Output]) -> None:
        """Asks for consent where it is time to, and gives up the pairs whose consent has run out."""
        if not self._session.context.options.consent:
            self._send_keepalives(now, outputs)
            return
        for pair in list(self._session.check_list):
            if pair.consent is None:
                continue
            if now >= pair.consent.expires_at:
                self._lose(pair, "the peer has not answered for 30 seconds", False, outputs)
            elif now >= pair.consent.next_at:
                self._ask(pair, now, outputs)

    def receive_response(
        self,
        message: Message,
        local: TransportAddress,
        remote: TransportAddress,
        now: float,
        outputs: list[Output],
    ) -> bool:
        """Whether `message` was the answer to a consent check."""
        party = self._session.remote
        pair = self._session.check_list.get((local, remote))
        if party is None or pair is None or pair.consent is None:
            return False
        if not pair.consent.awaits(message.transaction_id):
            return False
        if not message.verify(party.credentials.key, Integrity.SHA1):
            return True
        if message.message_class is MessageClass.SUCCESS_RESPONSE:
            pair.rtt = pair.consent.answered(message.transaction_id, now)
            return True
        error = message.get(ERROR_CODE)
        if error is not None and error.code == ErrorCode.FORBIDDEN:
            # RFC 7675 section 5.2: the peer wants no more.
            self._lose(pair, "the peer revoked its consent", True, outputs)
        return True

    def _ask(self, pair: CandidatePair, now: float, outputs: list[Output]) -> None:
        session = self._session
        if session.remote is None or pair.consent is None:
            return
        standing = session.context.standing
        request, transaction_id = form_request(
            session.credentials,
            session.remote.credentials,
            standing.role,
            standing.tie_breaker,
            peer_reflexive_priority(pair.local),
        )
        pair.consent.asked(transaction_id, now)
        outputs.append(Transmit(request, pair.local.base, pair.remote.address))

    def _lose(self, pair: CandidatePair, reason: str, revoked: bool, outputs: list[Output]) -> None:
        session = self._session
        was_in_use = pair is session.path
        session.give_up(pair, reason)
        if was_in_use:
            outputs.append(ConsentLost(pair.local.base, pair.remote.address, revoked))

    def _send_keepalives(self, now: float, outputs: list[Output]) -> None:
        valid = [pair for pair in self._session.check_list if pair.is_valid]
        for pair in valid:
            if now >= self._keepalive_at(pair):
                self._kept_at[pair] = now
                outputs.append(Transmit(form_keepalive(), pair.local.base, pair.remote.address))
        self._kept_at = {pair: at for pair, at in self._kept_at.items() if pair in valid}

    def _keepalive_at(self, pair: CandidatePair) -> float:
        assert pair.valid_at is not None
        return self._kept_at.get(pair, pair.valid_at) + KEEPALIVE_INTERVAL
