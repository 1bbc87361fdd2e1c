"""Answering: the listener's side of one attempt. Messages in, messages out; no channel and no clock."""

from __future__ import annotations

from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from peerpath.identity import Identity, PublicKey
from peerpath.identity.public_key import KEY_BYTES
from peerpath.signaling.agreement import agree, agreement_private_key, public_bytes
from peerpath.signaling.channel import SignalingError
from peerpath.signaling.envelope import SIGNATURE_BYTES, Content, Envelope, Form
from peerpath.signaling.replay_guard import ReplayGuard
from peerpath.signaling.sealing import TIME_BYTES, Attempt, offer_key, seal, session_keys, unseal
from peerpath.signaling.sequence import Received

_SIGNATURE_AT = KEY_BYTES + TIME_BYTES
_CONTENT_AT = _SIGNATURE_AT + SIGNATURE_BYTES


class Answering:
    """One attempt of somebody to reach us; `open_offer` makes it.

    answering = Answering.open_offer(identity, data, guard, now=time.time())
    await channel.send(answering.seal("answer", {...}))
    kind, body = answering.open(await channel.recv())
    """

    def __init__(
        self, identity: Identity, attempt: Attempt, agreed: bytes, key: bytes, received: Received
    ) -> None:
        self._identity = identity
        self._facts = attempt
        self._offer_key = key
        private_key = X25519PrivateKey.generate()
        self._ephemeral = public_bytes(private_key)
        self._session = session_keys(agreed, agree(private_key, attempt.ephemeral), attempt, self._ephemeral)
        self._sent = 0
        self._received = received
        self._answer_has_arrived = False
        self.kind = ""
        """The kind of the offer."""
        self.body: dict[str, Any] = {}
        """The body of the offer."""

    @classmethod
    def open_offer(cls, identity: Identity, data: bytes, guard: ReplayGuard, *, now: float) -> Self:
        """Opens an offer to this identity; `now` is Unix time in seconds.

        SignalingError if it is no offer, is meant for somebody else, is not signed by the dialer whom it
        names, was here before, or is dated too far from `now`.
        """
        envelope = Envelope.decode(data)
        if envelope.form is not Form.OFFER:
            raise SignalingError("the message is no offer, and the attempt that it belongs to is not known")
        try:
            agreed = agree(agreement_private_key(identity), envelope.ephemeral)
        except ValueError:
            raise SignalingError("the offer has a key that anybody could compute with") from None
        key = offer_key(agreed, envelope.attempt, envelope.ephemeral, identity.public_key)
        inside = unseal(key, envelope)
        if len(inside) < _CONTENT_AT:
            raise SignalingError("the inside of the offer is cut short")
        attempt = Attempt(
            envelope.attempt,
            PublicKey(inside[:KEY_BYTES]),
            identity.public_key,
            envelope.ephemeral,
            int.from_bytes(inside[KEY_BYTES:_SIGNATURE_AT], "big"),
        )
        signature, content = inside[_SIGNATURE_AT:_CONTENT_AT], inside[_CONTENT_AT:]
        if not attempt.dialer.verify(signature, attempt.transcript(Form.OFFER, b"", content)):
            raise SignalingError(f"the offer is not signed by {attempt.dialer}, whom it names as the dialer")
        received = Received()
        offer = received.next(content)
        guard.admit(attempt.dialer, attempt.id, sent_at=attempt.sent_at_ms / 1000, now=now)
        answering = cls(identity, attempt, agreed, key, received)
        answering.kind, answering.body = offer.kind, offer.body
        return answering

    @property
    def attempt(self) -> bytes:
        """16 random bytes that tell this attempt from all others of this peer."""
        return self._facts.id

    @property
    def peer(self) -> PublicKey:
        """Who dials."""
        return self._facts.dialer

    def seal(self, kind: str, body: dict[str, Any]) -> bytes:
        """The next message to the peer; the first one is the answer.

        `kind` is a short name, `body` a JSON object; ValueError if they are not, or together too long.
        """
        facts = self._facts
        content = Content(self._sent, kind, body).encode()
        if self._answer_has_arrived:
            data = seal(self._session.from_listener, Form.SESSION, facts.id, b"", content)
        else:
            # Any of them may get lost, so each brings the key until the dialer has used it.
            signature = self._identity.sign(facts.transcript(Form.ANSWER, self._ephemeral, content))
            data = seal(
                self._session.from_listener, Form.ANSWER, facts.id, self._ephemeral, signature + content
            )
        self._sent += 1
        return data

    def open(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """Kind and body of a message; SignalingError for anything that is not from that peer and attempt.

        Each message opens once and in order; some may be missing.
        """
        envelope = Envelope.decode(data)
        if envelope.attempt != self._facts.id:
            raise SignalingError("the message belongs to another attempt")
        if envelope.form is Form.SESSION:
            content = self._received.next(unseal(self._session.from_dialer, envelope))
            self._answer_has_arrived = True
        elif envelope.form is Form.EARLY:
            content = self._open_early(envelope)
        elif envelope.form is Form.OFFER:
            raise SignalingError("the offer was here before")
        else:
            raise SignalingError("the message is one that a listener sends, not one to a listener")
        return content.kind, content.body

    def _open_early(self, envelope: Envelope) -> Content:
        inside = unseal(self._offer_key, envelope)
        signature, content = inside[:SIGNATURE_BYTES], inside[SIGNATURE_BYTES:]
        if not self._facts.dialer.verify(signature, self._facts.transcript(Form.EARLY, b"", content)):
            raise SignalingError(f"the message is not signed by {self._facts.dialer}, who dials")
        return self._received.next(content)
