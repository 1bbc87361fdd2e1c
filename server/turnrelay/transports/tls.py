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


_NOTHING_IN_COMMON = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "NO_SHARED_CIPHER",
        "NO_SUITABLE_KEY_SHARE",
        "NO_SUITABLE_SIGNATURE_ALGORITHM",
        "NO_SHARED_SIGNATURE_ALGORITHMS",
    }
)
"""OpenSSL's reasons against a client that speaks TLS, but none that is spoken here."""


class _Handshake(ssl.SSLObject):
    """Tells such a client why its handshake failed, by the alert of RFC 8446 section 6.2.

    OpenSSL has written the alert when `do_handshake` raises, and event loops then close the connection
    without sending it. So the failure waits for the next call, which comes when the client hangs up, as one
    does on an alert; otherwise the handshake ends at its time limit.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except ssl.SSLError as failure:
            if failure.reason not in _NOTHING_IN_COMMON:
                raise
            self._failure = failure
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert goes out first") from failure


def _server_context(certificate: Path, key: Path, alpn: list[str]) -> ssl.SSLContext:
    """A client that offers none of the protocols is served all the same: few TURN clients offer any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(alpn)
    context.load_cert_chain(certificate, key)
    return context
