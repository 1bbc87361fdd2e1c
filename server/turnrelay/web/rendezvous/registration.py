"""Registration: a client proves its key by signing a challenge for this host."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from stunwire import DecodeError
from stunwire.rendezvous import CloseCode, Register, decode_from_client, registration_transcript

from turnrelay.web.rendezvous.counts import Refusal


class RegistrationRefused(Exception):
    """The client is not registered: the code and the words it is told, and what is counted."""

    def __init__(self, code: CloseCode, reason: str, refusal: Refusal) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.refusal = refusal


def proved_key(data: bytes, nonce: bytes, authority: str) -> bytes:
    """The key that a REGISTER frame proves; RegistrationRefused if it proves none."""
    try:
        frame = decode_from_client(data)
    except DecodeError as error:
        raise RegistrationRefused(CloseCode.PROTOCOL_ERROR, str(error), Refusal.PROTOCOL) from error
    if not isinstance(frame, Register):
        raise RegistrationRefused(CloseCode.PROTOCOL_ERROR, "REGISTER comes first", Refusal.PROTOCOL)
    try:
        public_key = Ed25519PublicKey.from_public_bytes(frame.key)
        public_key.verify(frame.signature, registration_transcript(nonce, authority))
    except (InvalidSignature, ValueError):
        raise RegistrationRefused(
            CloseCode.BAD_SIGNATURE,
            "the signature does not prove the key for this challenge and Host header",
            Refusal.SIGNATURE,
        ) from None
    return frame.key
