"""Why a link ended, in words that a person can act on."""

from __future__ import annotations

from aioquic.quic.packet import QuicErrorCode

from peerpath.quic.certificate import CertificateRefused

_CRYPTO_ERRORS = range(QuicErrorCode.CRYPTO_ERROR, QuicErrorCode.CRYPTO_ERROR + 256)
_LONGEST = 200


def reason_of(
    refusal: CertificateRefused | None,
    code: int,
    frame_type: int | None,
    phrase: str,
    by_peer: bool,
    idle_timeout: float,
) -> str:
    """The reason for the end of a connection, as aioquic or the peer gave it; `phrase` may be the peer's."""
    if refusal is not None:
        return str(refusal)
    said = "".join(character for character in phrase if character.isprintable())[:_LONGEST]
    if by_peer and frame_type is None:
        return said or "the peer closed the link"
    if by_peer and code in _CRYPTO_ERRORS:
        return f"the peer refused this side: {said or f'TLS alert {code - QuicErrorCode.CRYPTO_ERROR}'}"
    if by_peer:
        return f"the peer gave the link up: {said or f'QUIC error {code:#x}'}"
    if phrase == "Idle timeout":
        return f"nothing was heard from the peer for {idle_timeout:g} s"
    return f"the peer broke the protocol: {said or f'QUIC error {code:#x}'}"
