"""The TLS side of the listeners: TLS 1.2 and newer, authenticated encryption only (RFC 9325)."""

import ssl
from pathlib import Path
from typing import NamedTuple, Self

TURN_ALPN, HTTP_ALPN = "stun.turn", "http/1.1"
"""RFC 7443 and RFC 7301."""


class TlsContexts(NamedTuple):
    """One certificate for both kinds of port; they differ in the ALPN that they agree to."""

    turn: ssl.SSLContext
    shared: ssl.SSLContext
    """For ports on which TURN and HTTP come."""

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Raises OSError or ssl.SSLError for files that do not fit."""
        both = [_server_context(certificate, key, alpn) for alpn in ([TURN_ALPN], [TURN_ALPN, HTTP_ALPN])]
        return cls(*both)


def _server_context(certificate: Path, key: Path, alpn: list[str]) -> ssl.SSLContext:
    """A client that offers none of the protocols is served all the same: few TURN clients offer any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(alpn)
    context.load_cert_chain(certificate, key)
    return context
