"""The keys of one attempt, and sealing under them.

Offers are sealed under the agreement of the dialer's ephemeral key with the listener's identity; from the
answer on, the agreement of both ephemeral keys goes in as well, so that a stolen identity opens nothing old.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peerpath.identity import PublicKey
from peerpath.signaling.channel import SignalingError
from peerpath.signaling.envelope import NONCE_BYTES, Envelope, Form

_KEY_BYTES = 32
_OFFER_KEY = b"peerpath signaling 1 offer key\0"
_SESSION_KEYS = b"peerpath signaling 1 session keys\0"
_SIGNATURE = b"peerpath signaling 1 signature\0"
TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an offer lays down: who dials whom, with which key, and when (Unix time in ms)."""

    id: bytes
    dialer: PublicKey
    listener: PublicKey
    ephemeral: bytes
    sent_at_ms: int

    def transcript(self, form: Form, answer_ephemeral: bytes, content: bytes) -> bytes:
        """What is signed. All but the content has a fixed length for each form, so nothing can shift."""
        return b"".join(
            (
                _SIGNATURE,
                bytes((form,)),
                self.id,
                self.dialer.raw,
                self.listener.raw,
                self.ephemeral,
                answer_ephemeral,
                encode_time(self.sent_at_ms),
                content,
            )
        )


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """One key for each direction."""

    from_dialer: bytes
    from_listener: bytes


def encode_time(milliseconds: int) -> bytes:
    """A time stamp as it is sent and signed."""
    return milliseconds.to_bytes(TIME_BYTES, "big")


def offer_key(agreed: bytes, attempt: bytes, ephemeral: bytes, listener: PublicKey) -> bytes:
    """The key of an offer: `agreed` by the dialer's ephemeral key and the listener's identity."""
    return _derive(agreed, attempt, _OFFER_KEY + ephemeral + listener.raw, _KEY_BYTES)


def session_keys(
    agreed: bytes, agreed_by_ephemerals: bytes, attempt: Attempt, answer_ephemeral: bytes
) -> SessionKeys:
    """The keys from the answer on."""
    info = _SESSION_KEYS + attempt.dialer.raw + attempt.listener.raw + attempt.ephemeral + answer_ephemeral
    both = _derive(agreed + agreed_by_ephemerals, attempt.id, info, 2 * _KEY_BYTES)
    return SessionKeys(both[:_KEY_BYTES], both[_KEY_BYTES:])


def seal(key: bytes, form: Form, attempt: bytes, ephemeral: bytes, plaintext: bytes) -> bytes:
    """An envelope, as bytes; its outside is authenticated with it. ValueError if it is too long."""
    # Random nonces: one key seals a few dozen messages, and there is no count that two copies could share.
    nonce = secrets.token_bytes(NONCE_BYTES)
    head = Envelope(form, attempt, ephemeral, nonce, b"").head
    return Envelope(
        form, attempt, ephemeral, nonce, ChaCha20Poly1305(key).encrypt(nonce, plaintext, head)
    ).encode()


def unseal(key: bytes, envelope: Envelope) -> bytes:
    """The inside; SignalingError if it was not sealed under this key, or was changed."""
    try:
        return ChaCha20Poly1305(key).decrypt(envelope.nonce, envelope.sealed, envelope.head)
    except InvalidTag:
        raise SignalingError(
            "the message cannot be opened: it was changed on its way or is meant for somebody else"
        ) from None


def _derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)
