"""What went wrong with a connection, in words that a person can act on."""

from __future__ import annotations

import os
import ssl

_ASYNCIO_SAYS = "Connect call failed"
"""What asyncio writes in the place of the system's reason."""


def in_words(error: OSError | UnicodeError) -> str:
    """Of an error of sockets, TLS or the encoding of a name; never empty. It does not say with whom."""
    if isinstance(error, UnicodeError):
        return "not a host name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it: {error.reason or error}"
    text = error.strerror or str(error)
    if text.startswith(_ASYNCIO_SAYS) and error.errno is not None:
        return os.strerror(error.errno)
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return text or "it closed the connection"
    return text or "the connection was lost"
