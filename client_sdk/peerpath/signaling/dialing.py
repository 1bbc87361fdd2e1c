"""Dialing: the dialer's side of one attempt. Messages in, messages out; no channel and no clock."""

from __future__ import annotations

import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from peerpath.identity import Identity, PublicKey
from peerpath.signaling.agreement import agree, agreement_public_key, public_bytes
from peerpath.signaling.channel import SignalingError
from peerpath.signaling.envelope import ATTEMPT_BYTES, SIGNATURE_BYTES, Content, Envelope, Form
from peerpath.signaling.sealing import (
    Attempt,
    SessionKeys,
    encode_time,
    offer_key,
    seal,
    session_keys,
    unseal,
)
from peerpath.signaling.sequence import Received


class Dialing:
    """One attempt to reach `peer`. `now` is Unix time in seconds.

    dialing = Dialing(identity, peer, now=time.time())
    await channel.send(dialing.seal("offer", {...}))
    kind, body = dialing.open(await channel.recv())

    What is sealed before an answer was opened is readable by whoever holds the peer's private key, also if it
    is stolen later; everything after that by the two of this attempt alone.
    """

    def __init__(self, identity: Identity, peer: PublicKey, *, now: float) -> None:
        """SignalingError if `peer` is no key that anybody can hold."""
        self._identity = identity
        self._private_key = X25519PrivateKey.generate()
        self._facts = Attempt(
            secrets.token_bytes(ATTEMPT_BYTES),
            identity.public_key,
            peer,
            public_bytes(self._private_key),
            int(now * 1000),
        )
        try:
            self._agreed = agree(self._private_key, agreement_public_key(peer))
        except ValueError as error:
            raise SignalingError(f"{peer} cannot be dialed: {error}") from error
        self._offer_key = offer_key(self._agreed, self._facts.id, self._facts.ephemeral, peer)
        self._answer_ephemeral = b""
        self._session: SessionKeys | None = None
        self._sent = 0
        self._received = Received()

    @property
    def attempt(self) -> bytes:
        """16 random bytes that tell this attempt from all others."""
        return self._facts.id

    @property
    def peer(self) -> PublicKey:
        """Who is dialed."""
        return self._facts.listener

    def seal(self, kind: str, body: dict[str, Any]) -> bytes:
        """The next message to the peer; the first one is the offer.

        `kind` is a short name, `body` a JSON object; ValueError if they are not, or together too long.
        """
        facts = self._facts
        content = Content(self._sent, kind, body).encode()
        if self._session is not None:
            data = seal(self._session.from_dialer, Form.SESSION, facts.id, b"", content)
        else:
            data = self._seal_unanswered(Form.EARLY if self._sent else Form.OFFER, content)
        self._sent += 1
        return data

    def open(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """Kind and body of a message; SignalingError for anything that is not from that peer and attempt.

        Each message opens once and in order; some may be missing.
        """
        envelope = Envelope.decode(data)
        if envelope.attempt != self._facts.id:
            raise SignalingError("the message belongs to another attempt")
        if envelope.form is Form.ANSWER:
            content = self._open_answer(envelope)
        elif envelope.form is Form.SESSION and self._session is not None:
            content = self._received.next(unseal(self._session.from_listener, envelope))
        elif envelope.form is Form.SESSION:
            raise SignalingError("the answer to the offer has not arrived, so this message cannot be opened")
        else:
            raise SignalingError("the message is one that a dialer sends, not one to a dialer")
        return content.kind, content.body

    def _seal_unanswered(self, form: Form, content: bytes) -> bytes:
        facts = self._facts
        signature = self._identity.sign(facts.transcript(form, b"", content))
        if form is Form.EARLY:
            return seal(self._offer_key, form, facts.id, b"", signature + content)
        inside = facts.dialer.raw + encode_time(facts.sent_at_ms) + signature + content
        return seal(self._offer_key, form, facts.id, facts.ephemeral, inside)

    def _open_answer(self, envelope: Envelope) -> Content:
        facts, ephemeral = self._facts, envelope.ephemeral
        if self._session is not None and ephemeral != self._answer_ephemeral:
            raise SignalingError(
                "another device of the peer answered, too; this attempt goes on with the first"
            )
        try:
            keys = session_keys(self._agreed, agree(self._private_key, ephemeral), facts, ephemeral)
        except ValueError:
            raise SignalingError("the answer has a key that anybody could compute with") from None
        inside = unseal(keys.from_listener, envelope)
        signature, content = inside[:SIGNATURE_BYTES], inside[SIGNATURE_BYTES:]
        if not facts.listener.verify(signature, facts.transcript(Form.ANSWER, ephemeral, content)):
            raise SignalingError(f"the answer is not signed by {facts.listener}, who was dialed")
        received = self._received.next(content)
        self._session, self._answer_ephemeral = keys, ephemeral
        return received
